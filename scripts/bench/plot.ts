/**
 * Curves as an SVG file: cost against number of flows, of services and of destinations.
 *
 * @module
 */
import type { Measurement } from "./packets.ts";

/** One curve: a name, and points of (how many, nanoseconds). */
interface Curve {
  name: string;
  points: [x: number, y: number][];
}

const PANELS = [
  { plot: "flows", title: "flows" },
  { plot: "services", title: "services" },
  { plot: "destinations", title: "destinations" },
] as const;
/** Told apart by people who see colours otherwise: Okabe and Ito. */
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];
/** What others are compared with. */
const FLOOR = { begins: "floor", stroke: 'stroke="#777" stroke-dasharray="5 4"', fill: "#777" };
const PANEL = { width: 300, height: 260, gap: 58 };
const MARGIN = { left: 62, right: 24, top: 74, bottom: 58 };
const LEGEND_LINE = 17;
const TICKS = 5;
const MILLION = 1 << 20;

function curvesOf(plot: string, measurements: readonly Measurement[]): Curve[] {
  const curves = new Map<string, Curve>();
  const points = measurements.flatMap(({ points, netNs }) =>
    points.map((point) => ({ ...point, netNs }))
  );
  for (const { curve: name, x, netNs } of points.filter((point) => point.plot === plot)) {
    const curve = curves.get(name) ?? { name, points: [] };
    curves.set(name, curve);
    curve.points.push([x, netNs]);
  }
  return [...curves.values()];
}

/** The next of 1, 2, 5, 10, 20, 50 and so on. */
function round(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value)!;
}

function text(x: number, y: number, content: string, more = ""): string {
  const escaped = content.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${more}>${escaped}</text>`;
}

function line(x1: number, y1: number, x2: number, y2: number, more: string): string {
  const [a, b, c, d] = [x1, y1, x2, y2].map((value) => value.toFixed(1));
  return `<line x1="${a}" y1="${b}" x2="${c}" y2="${d}" ${more}/>`;
}

/** One plot with its axes and its legend, its upper left corner at (0, 0). */
function panel(title: string, curves: readonly Curve[]): string {
  const { width, height } = PANEL;
  const xs = [...new Set(curves.flatMap(({ points }) => points.map(([x]) => x)))]
    .sort((a, b) => a - b);
  const most = Math.max(1, ...curves.flatMap(({ points }) => points.map(([, y]) => y)));
  const step = round(most / TICKS), top = Math.ceil(most / step) * step;
  const [low, high] = [Math.log(xs[0]!), Math.log(Math.max(xs.at(-1)!, xs[0]! * 2))];
  const right = (x: number) => (Math.log(x) - low) / (high - low) * width;
  const down = (y: number) => height - Math.max(0, y) / top * height;
  const parts: string[] = [];
  for (let y = 0; y <= top; y += step) {
    parts.push(line(0, down(y), width, down(y), `stroke="${y === 0 ? "#444" : "#ddd"}"`));
    parts.push(text(-8, down(y) + 4, String(y), 'text-anchor="end"'));
  }
  for (const x of xs) {
    parts.push(line(right(x), height, right(x), height + 5, 'stroke="#444"'));
    parts.push(
      text(
        right(x),
        height + 20,
        x === MILLION ? "1M" : x.toLocaleString("en"),
        'text-anchor="middle"',
      ),
    );
  }
  parts.push(text(width / 2, height + 42, title, 'text-anchor="middle" font-weight="bold"'));
  const balancers = curves.filter(({ name }) => !name.startsWith(FLOOR.begins));
  curves.forEach((curve, i) => {
    const { name, points } = curve;
    const place = balancers.indexOf(curve);
    const colour = place < 0 ? FLOOR.fill : COLOURS[place % COLOURS.length]!;
    const stroke = place < 0 ? FLOOR.stroke : `stroke="${colour}"`;
    const path = points.map(([x, y]) => `${right(x).toFixed(1)},${down(y).toFixed(1)}`);
    parts.push(
      `<polyline points="${path.join(" ")}" fill="none" ${stroke} stroke-width="2"/>`,
      ...path.map((at) => {
        const [x, y] = at.split(",");
        return `<circle cx="${x}" cy="${y}" r="3.5" fill="${colour}"/>`;
      }),
    );
    const y = 14 + i * LEGEND_LINE;
    parts.push(line(10, y - 4, 32, y - 4, `${stroke} stroke-width="2"`));
    parts.push(text(38, y, name, `fill="${colour}" class="halo"`));
  });
  return parts.join("\n");
}

/**
 * Draws what was measured.
 *
 * @param host what it was measured on, for the line below the title
 * @returns an SVG document
 */
export function plot(measurements: readonly Measurement[], host: string): string {
  const panels = PANELS
    .map(({ plot, title }) => ({ title, curves: curvesOf(plot, measurements) }))
    .filter(({ curves }) => curves.length > 0);
  const across = PANEL.width + PANEL.gap;
  const width = MARGIN.left + panels.length * across - PANEL.gap + MARGIN.right;
  const height = MARGIN.top + PANEL.height + MARGIN.bottom;
  const drawn = panels.map(({ title, curves }, i) =>
    `<g transform="translate(${MARGIN.left + i * across} ${MARGIN.top})">\n${
      panel(title, curves)
    }\n</g>`
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" \
height="${height}" font-family="sans-serif" font-size="12" fill="#222">
<style>.halo { paint-order: stroke; stroke: #fff; stroke-width: 4px; }</style>
<rect width="${width}" height="${height}" fill="#fff"/>
${
    text(
      16,
      26,
      "Nanoseconds a packet, net of floor_tx: IP-in-IP, IPv4, 60 bytes",
      'font-size="16" font-weight="bold"',
    )
  }
${text(16, 46, host, 'fill="#666"')}
${drawn.join("\n")}
</svg>
`;
}

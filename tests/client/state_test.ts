/** All that an instance is, as one value: told, compared, put into force. */

import { assertEquals, assertRejects } from "@std/assert";
import { InvalidValueError, type State, UnreachableError } from "../../mod.ts";
import { clientTests, service, unreachable } from "./support.ts";

const clientTest = clientTests();

const WEB = service(1), DNS = service(2);
const STATE: State = {
  config: { unknownPort: "reject", ipv4VLANs: { 7: "10.0.0.254/24" } },
  services: [
    { service: WEB, destinations: [{ address: "10.0.0.1" }, { address: "10.0.0.2", weight: 2 }] },
    { service: DNS, destinations: [] },
  ],
  block: ["198.51.100.7", "2001:db8::/32"],
};

clientTest(
  "setState() makes all be as given, and what state() tells changes nothing",
  async ({ client }) => {
    const first = await client.setState(STATE);
    assertEquals(
      first.map(({ op, what, name, service }) => [op, what, name, ...(service ? [service] : [])]),
      [
        ["change", "config", "ipv4VLANs"],
        ["change", "config", "unknownPort"],
        ["add", "service", "192.0.2.1:80/tcp"],
        ["add", "destination", "10.0.0.1", "192.0.2.1:80/tcp"],
        ["add", "destination", "10.0.0.2", "192.0.2.1:80/tcp"],
        ["add", "service", "192.0.2.2:80/tcp"],
        ["add", "block", "198.51.100.7/32"],
        ["add", "block", "2001:db8::/32"],
      ],
    );
    assertEquals(client.config().unknownPort, "reject");
    assertEquals(client.blocked().map(({ prefix }) => prefix).sort(), client.state().block);
    assertEquals(await client.setState(client.state()), []);
    assertEquals(await client.setState(STATE), []);
  },
);

clientTest(
  "setState() leaves alone what is left out, and removes what a list lacks",
  async ({ client }) => {
    await client.setState(STATE);
    const { services } = client.state();
    const [web] = services;
    const changed = { ...web!, destinations: [{ address: "10.0.0.2" }] };
    const different = await client.setState({ services: [changed] });
    assertEquals(different, [
      {
        op: "remove",
        what: "destination",
        name: "10.0.0.1",
        before: web!.destinations[0]!,
        service: "192.0.2.1:80/tcp",
      },
      {
        op: "change",
        what: "destination",
        name: "10.0.0.2",
        before: { weight: 2 },
        after: { weight: 1 },
        service: "192.0.2.1:80/tcp",
      },
      {
        op: "remove",
        what: "service",
        name: "192.0.2.2:80/tcp",
        before: services[1]!.service,
      },
    ]);
    assertEquals(client.config().unknownPort, "reject");
    assertEquals(client.blocked().length, 2);
    assertEquals(client.services().length, 1);
    await client.setState({ block: [] });
    assertEquals(client.blocked(), []);
  },
);

clientTest(
  "a state that cannot be, or only asks, changes nothing",
  async ({ client, nextHops }) => {
    await client.setState(STATE);
    const before = client.state();
    const asked = await client.setState({ services: [], block: [] }, { dryRun: true });
    assertEquals(asked.map(({ op }) => op), Array(6).fill("remove"));
    nextHops.answers.set("10.0.0.9", unreachable("10.0.0.9"));
    const wrong: [State, new (...args: never[]) => Error, string][] = [
      [
        { services: [{ service: WEB, destinations: [{ address: "x" }] }] },
        InvalidValueError,
        '"x"',
      ],
      [{ services: [...STATE.services!, ...STATE.services!] }, InvalidValueError, "given twice"],
      [{ block: ["none"] }, InvalidValueError, "neither a prefix nor an address"],
      [{ config: { expired: "pass" as "drop" } }, InvalidValueError, 'expired "pass"'],
      [
        {
          config: {},
          services: [{ service: DNS, destinations: [{ address: "10.0.0.9" }] }],
          block: [],
        },
        UnreachableError,
        "10.0.0.9",
      ],
    ];
    for (const [state, type, says] of wrong) {
      await assertRejects(() => client.setState(state), type as typeof Error, says);
      assertEquals(client.state(), before);
    }
  },
);

/**
 * What nodes tell each other of a flow: its ends, and the address of its destination. No field depends on the
 * byte order, the clock or the slots of a node. All numbers are in network byte order:
 *
 * | offset | bytes | field |
 * |---|---|---|
 * | 0 | 1 | version: 1 |
 * | 1 | 1 | 1: client and VIP are IPv6; 2: the destination is IPv6; or both |
 * | 2 | 1 | protocol: 6 for TCP, 17 for UDP |
 * | 3 | 1 | state: 0 for one SYN so far, 1 for open, 2 for closing |
 * | 4 | 4 | milliseconds since its last packet |
 * | 8 | 2 | port of the client |
 * | 10 | 2 | port of the service |
 * | 12 | 4 or 16 | address of the client |
 * | | 4 or 16 | VIP |
 * | | 4 or 16 | address of the destination |
 *
 * @module
 */

/** The version of the format, which is the first byte. */
export const FLOW_RECORD_VERSION = 1;

const VIP_IPV6 = 1, DESTINATION_IPV6 = 2;
const FIXED = 12;
const MAX_IDLE_MS = 0xffffffff;
const MAX_STATE = 2;

/** Length in bytes of the longest record. */
export const MAX_FLOW_RECORD = FIXED + 3 * 16;

/** A record as it is read. */
export interface FlowRecord {
  /** Of client and VIP. */
  family: 4 | 6;
  /** IP protocol number. */
  protocol: number;
  /** 0: one SYN so far, 1: open, 2: closing. */
  state: number;
  idleMs: number;
  clientPort: number;
  port: number;
  /** 4 or 16 bytes, as all addresses. */
  client: Uint8Array;
  vip: Uint8Array;
  destination: Uint8Array;
}

/** The bytes of a record. */
export function encodeFlowRecord(record: FlowRecord): Uint8Array<ArrayBuffer> {
  const { client, vip, destination } = record;
  const bytes = new Uint8Array(FIXED + client.length + vip.length + destination.length);
  const view = new DataView(bytes.buffer);
  bytes[0] = FLOW_RECORD_VERSION;
  bytes[1] = (record.family === 6 ? VIP_IPV6 : 0) |
    (destination.length === 16 ? DESTINATION_IPV6 : 0);
  bytes[2] = record.protocol;
  bytes[3] = record.state;
  view.setUint32(4, Math.min(record.idleMs, MAX_IDLE_MS));
  view.setUint16(8, record.clientPort);
  view.setUint16(10, record.port);
  bytes.set(client, FIXED);
  bytes.set(vip, FIXED + client.length);
  bytes.set(destination, FIXED + client.length + vip.length);
  return bytes;
}

/** The length of the record that begins there; undefined if none can. */
export function flowRecordLength(bytes: Uint8Array, offset = 0): number | undefined {
  if (offset + FIXED > bytes.length || bytes[offset] !== FLOW_RECORD_VERSION) return undefined;
  const flags = bytes[offset + 1]!;
  if (flags > (VIP_IPV6 | DESTINATION_IPV6)) return undefined;
  const length = FIXED + (flags & VIP_IPV6 ? 32 : 8) + (flags & DESTINATION_IPV6 ? 16 : 4);
  return offset + length <= bytes.length ? length : undefined;
}

/** Reads a record; undefined if the bytes are none, of another version, or more than one. */
export function decodeFlowRecord(bytes: Uint8Array): FlowRecord | undefined {
  if (flowRecordLength(bytes) !== bytes.length) return undefined;
  const family = bytes[1]! & VIP_IPV6 ? 6 : 4;
  const protocol = bytes[2]!, state = bytes[3]!;
  if ((protocol !== 6 && protocol !== 17) || state > MAX_STATE) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const size = family === 6 ? 16 : 4;
  return {
    family,
    protocol,
    state,
    idleMs: view.getUint32(4),
    clientPort: view.getUint16(8),
    port: view.getUint16(10),
    client: bytes.subarray(FIXED, FIXED + size),
    vip: bytes.subarray(FIXED + size, FIXED + 2 * size),
    destination: bytes.subarray(FIXED + 2 * size),
  };
}

/** The records of a packed list; undefined if it does not end with one. */
export function splitFlowRecords(bytes: Uint8Array): Uint8Array[] | undefined {
  const records: Uint8Array[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = flowRecordLength(bytes, at);
    if (length === undefined) return undefined;
    records.push(bytes.subarray(at, at += length));
  }
  return records;
}

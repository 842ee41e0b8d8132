/**
 * The errors of the balancer. Each carries the data that it speaks of.
 *
 * @module
 */
import { ABI_VERSION } from "./abi.gen.ts";

/** What every error of the balancer is an instance of. */
export class XvsError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** A value that cannot be: nothing was changed. */
export class InvalidValueError extends XvsError {
  /** The name of the field or option, as in the API. */
  readonly field: string;
  /** What was given. */
  readonly value: unknown;

  constructor(field: string, value: unknown, message: string) {
    super(message);
    this.field = field;
    this.value = value;
  }
}

/** `createService()` of a service that exists. */
export class ServiceExistsError extends XvsError {
  /** As in `192.0.2.1:80/tcp`. */
  readonly service: string;

  constructor(service: string) {
    super(`Cannot create service "${service}": it exists already`);
    this.service = service;
  }
}

/** A service that does not exist. */
export class ServiceNotFoundError extends XvsError {
  /** As in `192.0.2.1:80/tcp`. */
  readonly service: string;

  constructor(service: string) {
    super(`Service "${service}" does not exist`);
    this.service = service;
  }
}

/** `createDestination()` of a destination that the service has. */
export class DestinationExistsError extends XvsError {
  /** As in `192.0.2.1:80/tcp`. */
  readonly service: string;
  /** The destination's address. */
  readonly destination: string;

  constructor(service: string, destination: string) {
    super(`Cannot create destination "${destination}" of service "${service}": it exists already`);
    this.service = service;
    this.destination = destination;
  }
}

/** A destination that the service does not have. */
export class DestinationNotFoundError extends XvsError {
  /** As in `192.0.2.1:80/tcp`. */
  readonly service: string;
  /** The destination's address. */
  readonly destination: string;

  constructor(service: string, destination: string) {
    super(`Service "${service}" has no destination "${destination}"`);
    this.service = service;
    this.destination = destination;
  }
}

/** A VIP that no service has. */
export class VipNotFoundError extends XvsError {
  /** The address asked for. */
  readonly address: string;

  constructor(address: string) {
    super(`VIP "${address}" does not exist: no service has this address`);
    this.address = address;
  }
}

/** No way to send packets to a destination. Nothing was changed. */
export class UnreachableError extends XvsError {
  /** The destination's address. */
  readonly destination: string;

  constructor(destination: string, reason: string, options?: ErrorOptions) {
    super(`Cannot send to destination "${destination}": ${reason}`, options);
    this.destination = destination;
  }
}

/** There is no address to probe a VIP on a destination by. */
export class ProbeError extends XvsError {
  /** The VIP. */
  readonly vip: string;
  /** The destination's address. */
  readonly destination: string;

  constructor(vip: string, destination: string, reason: string) {
    super(`Cannot probe VIP "${vip}" on destination "${destination}": ${reason}`);
    this.vip = vip;
    this.destination = destination;
  }
}

/** A table is full. Nothing was changed. */
export class TableFullError extends XvsError {
  /** The option of `create()` that sets the size of the table. */
  readonly option: string;
  /** Its present value. */
  readonly limit: number;

  constructor(what: string, option: string, limit: number) {
    super(`Cannot add ${what}: there is room for ${limit}; the option "${option}" makes more`);
    this.option = option;
    this.limit = limit;
  }
}

/** An instance of that name exists. Nothing was changed. */
export class InstanceExistsError extends XvsError {
  /** Its name. */
  readonly instance: string;

  constructor(instance: string) {
    super(`Cannot create instance "${instance}": it exists already; open it, or remove it first`);
    this.instance = instance;
  }
}

/** There is no instance of that name. */
export class InstanceNotFoundError extends XvsError {
  /** The name. */
  readonly instance: string;

  constructor(instance: string, wayOut: string) {
    super(`Instance "${instance}" does not exist: ${wayOut}`);
    this.instance = instance;
  }
}

/** Another process changes the instance, and has done so for too long. Nothing was changed. */
export class InstanceBusyError extends XvsError {
  /** Its name. */
  readonly instance: string;
  /** Which process; undefined: not known. */
  readonly pid: number | undefined;

  constructor(instance: string, pid: number | undefined, holder: string, waitedMs: number) {
    super(
      `Cannot change instance "${instance}": ${holder} has been changing it for ` +
        `${Math.round(waitedMs / 1000)} s`,
    );
    this.instance = instance;
    this.pid = pid;
  }
}

/** A change by a client that was opened to be read only. Nothing was changed. */
export class ReadOnlyError extends XvsError {
  /** The instance's name. */
  readonly instance: string;

  constructor(instance: string) {
    super(`Cannot change instance "${instance}": this client was opened to be read only`);
    this.instance = instance;
  }
}

/** An instance or an object is of another version of the ABI than this client. */
export class AbiError extends XvsError {
  /** The version that was found. */
  readonly found: number;
  /** The version that this client speaks. */
  readonly expected = ABI_VERSION;

  constructor(what: string, found: number, wayOut: string) {
    super(`${what} has ABI version ${found}, and this client speaks ${ABI_VERSION}: ${wayOut}`);
    this.found = found;
  }
}

/** The instance belongs to another network namespace than this process. Nothing was changed. */
export class NamespaceError extends XvsError {
  /** The instance's name. */
  readonly instance: string;

  constructor(instance: string, where: string) {
    super(
      `Cannot change instance "${instance}" from here: its interfaces are in network namespace ` +
        `${where}`,
    );
    this.instance = instance;
  }
}

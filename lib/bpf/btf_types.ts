/** The types that BTF describes, as data. */

interface Base {
  /** Its number in the BTF; 0 is void. */
  readonly id: number;
}

/** No type. */
export interface BtfVoid extends Base {
  readonly kind: "void";
}

/** A whole number. */
export interface BtfInt extends Base {
  readonly kind: "int";
  readonly name: string;
  /** In bytes. */
  readonly size: number;
  /** Fewer than 8 times `size` in the bit-fields of old compilers. */
  readonly bits: number;
  readonly signed: boolean;
  readonly bool: boolean;
}

/** A floating-point number. */
export interface BtfFloat extends Base {
  readonly kind: "float";
  readonly name: string;
  /** In bytes. */
  readonly size: number;
}

/** A type made of one other. */
export interface BtfModifier extends Base {
  readonly kind: "pointer" | "const" | "volatile" | "restrict";
  readonly type: BtfType;
}

/** Another name for a type, or a tag on it. */
export interface BtfAlias extends Base {
  readonly kind: "typedef" | "type_tag";
  readonly name: string;
  readonly type: BtfType;
}

/** An array. */
export interface BtfArray extends Base {
  readonly kind: "array";
  /** Of each element. */
  readonly type: BtfType;
  /** How many elements. */
  readonly length: number;
}

/** A member of a struct or union. */
export interface BtfMember {
  /** Empty for an unnamed struct or union. */
  readonly name: string;
  readonly type: BtfType;
  /** From the start of the struct, in bits. */
  readonly offsetBits: number;
  /** In bits; 0 for what is not a bit-field. */
  readonly bitfieldSize: number;
}

/** A struct or a union. */
export interface BtfStruct extends Base {
  readonly kind: "struct" | "union";
  /** Empty if it has none. */
  readonly name: string;
  /** In bytes. */
  readonly size: number;
  readonly members: readonly BtfMember[];
}

/** An enum of at most 32 bits. */
export interface BtfEnum extends Base {
  readonly kind: "enum";
  /** Empty if it has none. */
  readonly name: string;
  /** In bytes. */
  readonly size: number;
  readonly signed: boolean;
  readonly values: readonly { readonly name: string; readonly value: number }[];
}

/** An enum of 64 bits. */
export interface BtfEnum64 extends Base {
  readonly kind: "enum64";
  /** Empty if it has none. */
  readonly name: string;
  /** In bytes. */
  readonly size: number;
  readonly signed: boolean;
  readonly values: readonly { readonly name: string; readonly value: bigint }[];
}

/** A struct or union that is declared and not defined. */
export interface BtfForward extends Base {
  readonly kind: "forward";
  readonly name: string;
}

/** The parameters and the result of a function. */
export interface BtfFunctionPrototype extends Base {
  readonly kind: "function_prototype";
  /** The result. */
  readonly type: BtfType;
  /** The last one is of type void and without a name where more may follow. */
  readonly parameters: readonly { readonly name: string; readonly type: BtfType }[];
}

/** Where a name can be seen. */
export type BtfLinkage = "static" | "global" | "extern";

/** A function. */
export interface BtfFunction extends Base {
  readonly kind: "function";
  readonly name: string;
  /** Its prototype. */
  readonly type: BtfType;
  readonly linkage: BtfLinkage;
}

/** A global variable. */
export interface BtfVariable extends Base {
  readonly kind: "variable";
  readonly name: string;
  readonly type: BtfType;
  readonly linkage: BtfLinkage;
}

/** A note on a type, or on one of its members. */
export interface BtfDeclarationTag extends Base {
  readonly kind: "declaration_tag";
  readonly name: string;
  readonly type: BtfType;
  /** The member or parameter that it is on; -1 for the type itself. */
  readonly component: number;
}

/** A section of global variables, such as `.rodata`. */
export interface BtfDataSection extends Base {
  readonly kind: "data_section";
  readonly name: string;
  /** In bytes. */
  readonly size: number;
  readonly variables: readonly BtfSectionVariable[];
}

/** A variable at its place. */
export interface BtfSectionVariable {
  readonly name: string;
  readonly type: BtfType;
  /** From the section's start, in bytes. */
  readonly offset: number;
  /** In bytes. */
  readonly size: number;
  readonly linkage: BtfLinkage;
}

/** A type; `kind` tells which. */
export type BtfType =
  | BtfVoid
  | BtfInt
  | BtfFloat
  | BtfModifier
  | BtfAlias
  | BtfArray
  | BtfStruct
  | BtfEnum
  | BtfEnum64
  | BtfForward
  | BtfFunctionPrototype
  | BtfFunction
  | BtfVariable
  | BtfDeclarationTag
  | BtfDataSection;

/** The type behind `const`, `volatile`, `restrict`, tags and typedefs. */
export function resolve(type: BtfType): BtfType {
  while (
    type.kind === "const" || type.kind === "volatile" || type.kind === "restrict" ||
    type.kind === "typedef" || type.kind === "type_tag"
  ) type = type.type;
  return type;
}

/**
 * How many bytes a value of a type takes.
 *
 * @throws {TypeError} for what has no values, such as a function
 */
export function sizeOf(type: BtfType): number {
  const resolved = resolve(type);
  switch (resolved.kind) {
    case "int":
    case "float":
    case "struct":
    case "union":
    case "enum":
    case "enum64":
    case "data_section":
      return resolved.size;
    case "pointer":
      return 8;
    case "array":
      return resolved.length * sizeOf(resolved.type);
    case "variable":
      return sizeOf(resolved.type);
    default:
      throw new TypeError(`Cannot tell the size of BTF type ${resolved.id}: a ${resolved.kind}`);
  }
}

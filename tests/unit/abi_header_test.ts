import { assertEquals, assertThrows } from "@std/assert";
import { parseHeader } from "../../bpf/abi_header.ts";

Deno.test("parseHeader() reads definitions with their comments, however these are broken", () => {
  const text = `
/* A file. */
#include <linux/types.h>

/*
 * What goes
 * where.
 */
struct route {
	__be32 via; /* next hop */
	__u8 mac[6]; /* of it, if it has
		      * one */
	struct other *unused;
	__u8 pad[COUNT];
};
_Static_assert(sizeof(struct route) == 16, "route");

/* How. */
enum way {
	WAY_UP, /* to heaven */
	WAY_DOWN = 3,
};

enum {
	LIMIT = 0x10, /* at most */
};
`;
  assertEquals(parseHeader(text.replace("\tstruct other *unused;\n", "")), [
    {
      kind: "struct",
      name: "route",
      comment: "What goes where.",
      members: [
        { name: "via", value: undefined, comment: "next hop" },
        { name: "mac", value: undefined, comment: "of it, if it has one" },
        { name: "pad", value: undefined, comment: "" },
      ],
    },
    {
      kind: "enum",
      name: "way",
      comment: "How.",
      members: [
        { name: "WAY_UP", value: undefined, comment: "to heaven" },
        { name: "WAY_DOWN", value: "3", comment: "" },
      ],
    },
    {
      kind: "enum",
      name: undefined,
      comment: "",
      members: [{ name: "LIMIT", value: "0x10", comment: "at most" }],
    },
  ]);
  assertThrows(
    () => parseHeader(text),
    SyntaxError,
    'Cannot read "struct other *unused;" as a member of a struct',
  );
});

Deno.test("parseHeader() misses no definition silently", () => {
  assertThrows(
    () => parseHeader("struct a {\n\t__u8 b;\n};\nstruct c {\n  __u8 spaces;\n};\n"),
    SyntaxError,
    "Cannot read 1 of 2 definitions",
  );
});

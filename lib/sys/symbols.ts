/**
 * The C functions this project calls, as typed tables for `Deno.dlopen`.
 *
 * Beside each entry stands its C prototype. All of them exist since libbpf 1.0; one that does not
 * would be marked `optional` here and be `null` where it is missing.
 */

/** Functions of libbpf.so.1; every `int` result below zero is a negated errno. */
export const LIBBPF_SYMBOLS = {
  // libbpf_print_fn_t libbpf_set_print(libbpf_print_fn_t fn)
  libbpf_set_print: { parameters: ["function"], result: "pointer" },
  // int libbpf_num_possible_cpus(void)
  libbpf_num_possible_cpus: { parameters: [], result: "i32" },
  // int libbpf_probe_bpf_map_type(enum bpf_map_type map_type, const void *opts)
  libbpf_probe_bpf_map_type: { parameters: ["u32", "pointer"], result: "i32" },
  // int libbpf_probe_bpf_prog_type(enum bpf_prog_type prog_type, const void *opts)
  libbpf_probe_bpf_prog_type: { parameters: ["u32", "pointer"], result: "i32" },
  // int libbpf_probe_bpf_helper(enum bpf_prog_type prog_type, enum bpf_func_id helper_id, const void *opts)
  libbpf_probe_bpf_helper: { parameters: ["u32", "u32", "pointer"], result: "i32" },

  // struct bpf_object *bpf_object__open_mem(const void *buf, size_t size,
  //     const struct bpf_object_open_opts *opts)
  bpf_object__open_mem: { parameters: ["buffer", "usize", "buffer"], result: "pointer" },
  // int bpf_object__load(struct bpf_object *obj)
  bpf_object__load: { parameters: ["pointer"], result: "i32" },
  // void bpf_object__close(struct bpf_object *obj)
  bpf_object__close: { parameters: ["pointer"], result: "void" },
  // struct bpf_map *bpf_object__next_map(const struct bpf_object *obj, const struct bpf_map *map)
  bpf_object__next_map: { parameters: ["pointer", "pointer"], result: "pointer" },
  // struct bpf_program *bpf_object__next_program(const struct bpf_object *obj,
  //     struct bpf_program *prog)
  bpf_object__next_program: { parameters: ["pointer", "pointer"], result: "pointer" },

  // const char *bpf_map__name(const struct bpf_map *map)
  bpf_map__name: { parameters: ["pointer"], result: "pointer" },
  // int bpf_map__fd(const struct bpf_map *map)
  bpf_map__fd: { parameters: ["pointer"], result: "i32" },
  // enum bpf_map_type bpf_map__type(const struct bpf_map *map)
  bpf_map__type: { parameters: ["pointer"], result: "u32" },
  // __u32 bpf_map__key_size(const struct bpf_map *map)
  bpf_map__key_size: { parameters: ["pointer"], result: "u32" },
  // __u32 bpf_map__value_size(const struct bpf_map *map)
  bpf_map__value_size: { parameters: ["pointer"], result: "u32" },
  // bool bpf_map__is_internal(const struct bpf_map *map)
  bpf_map__is_internal: { parameters: ["pointer"], result: "bool" },
  // int bpf_map__set_max_entries(struct bpf_map *map, __u32 max_entries)
  bpf_map__set_max_entries: { parameters: ["pointer", "u32"], result: "i32" },
  // int bpf_map__set_initial_value(struct bpf_map *map, const void *data, size_t size)
  bpf_map__set_initial_value: { parameters: ["pointer", "buffer", "usize"], result: "i32" },
  // int bpf_map__reuse_fd(struct bpf_map *map, int fd)
  bpf_map__reuse_fd: { parameters: ["pointer", "i32"], result: "i32" },

  // const char *bpf_program__name(const struct bpf_program *prog)
  bpf_program__name: { parameters: ["pointer"], result: "pointer" },
  // enum bpf_prog_type bpf_program__type(const struct bpf_program *prog)
  bpf_program__type: { parameters: ["pointer"], result: "u32" },
  // int bpf_program__fd(const struct bpf_program *prog)
  bpf_program__fd: { parameters: ["pointer"], result: "i32" },
  // bool bpf_program__autoload(const struct bpf_program *prog)
  bpf_program__autoload: { parameters: ["pointer"], result: "bool" },
  // int bpf_program__set_log_buf(struct bpf_program *prog, char *log_buf, size_t log_size)
  bpf_program__set_log_buf: { parameters: ["pointer", "buffer", "usize"], result: "i32" },
  // int bpf_program__set_autoload(struct bpf_program *prog, bool autoload)
  bpf_program__set_autoload: { parameters: ["pointer", "bool"], result: "i32" },

  // int bpf_map_create(enum bpf_map_type map_type, const char *map_name, __u32 key_size,
  //     __u32 value_size, __u32 max_entries, const struct bpf_map_create_opts *opts)
  bpf_map_create: { parameters: ["u32", "buffer", "u32", "u32", "u32", "buffer"], result: "i32" },
  // int bpf_map_lookup_elem(int fd, const void *key, void *value)
  bpf_map_lookup_elem: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  // int bpf_map_update_elem(int fd, const void *key, const void *value, __u64 flags)
  bpf_map_update_elem: { parameters: ["i32", "buffer", "buffer", "u64"], result: "i32" },
  // int bpf_map_delete_elem(int fd, const void *key)
  bpf_map_delete_elem: { parameters: ["i32", "buffer"], result: "i32" },
  // int bpf_map_get_next_key(int fd, const void *key, void *next_key)
  bpf_map_get_next_key: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  // int bpf_map_lookup_batch(int fd, void *in_batch, void *out_batch, void *keys, void *values,
  //     __u32 *count, const struct bpf_map_batch_opts *opts)
  bpf_map_lookup_batch: {
    parameters: ["i32", "buffer", "buffer", "buffer", "buffer", "buffer", "buffer"],
    result: "i32",
  },
  // int bpf_map_update_batch(int fd, const void *keys, const void *values, __u32 *count,
  //     const struct bpf_map_batch_opts *opts)
  bpf_map_update_batch: {
    parameters: ["i32", "buffer", "buffer", "buffer", "buffer"],
    result: "i32",
  },
  // the same, on a thread of its own
  bpf_map_update_batch_async: {
    name: "bpf_map_update_batch",
    parameters: ["i32", "buffer", "buffer", "buffer", "buffer"],
    result: "i32",
    nonblocking: true,
  },
  // int bpf_map_delete_batch(int fd, const void *keys, __u32 *count,
  //     const struct bpf_map_batch_opts *opts)
  bpf_map_delete_batch: { parameters: ["i32", "buffer", "buffer", "buffer"], result: "i32" },

  // int bpf_obj_pin(int fd, const char *pathname)
  bpf_obj_pin: { parameters: ["i32", "buffer"], result: "i32" },
  // int bpf_obj_get(const char *pathname)
  bpf_obj_get: { parameters: ["buffer"], result: "i32" },
  // int bpf_obj_get_info_by_fd(int bpf_fd, void *info, __u32 *info_len)
  bpf_obj_get_info_by_fd: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  // int bpf_map_get_fd_by_id(__u32 id)
  bpf_map_get_fd_by_id: { parameters: ["u32"], result: "i32" },
  // int bpf_prog_get_fd_by_id(__u32 id)
  bpf_prog_get_fd_by_id: { parameters: ["u32"], result: "i32" },
  // int bpf_enable_stats(enum bpf_stats_type type)
  bpf_enable_stats: { parameters: ["u32"], result: "i32" },
  // int bpf_prog_test_run_opts(int prog_fd, struct bpf_test_run_opts *opts)
  bpf_prog_test_run_opts: { parameters: ["i32", "buffer"], result: "i32" },

  // int bpf_link_create(int prog_fd, int target_fd, enum bpf_attach_type attach_type,
  //     const struct bpf_link_create_opts *opts)
  bpf_link_create: { parameters: ["i32", "i32", "u32", "buffer"], result: "i32" },
  // int bpf_link_update(int link_fd, int new_prog_fd, const struct bpf_link_update_opts *opts)
  bpf_link_update: { parameters: ["i32", "i32", "buffer"], result: "i32" },
  // int bpf_link_detach(int link_fd)
  bpf_link_detach: { parameters: ["i32"], result: "i32" },
  // int bpf_link_get_next_id(__u32 start_id, __u32 *next_id)
  bpf_link_get_next_id: { parameters: ["u32", "buffer"], result: "i32" },
  // int bpf_link_get_fd_by_id(__u32 id)
  bpf_link_get_fd_by_id: { parameters: ["u32"], result: "i32" },
  // int bpf_xdp_detach(int ifindex, __u32 flags, const struct bpf_xdp_attach_opts *opts)
  bpf_xdp_detach: { parameters: ["i32", "u32", "buffer"], result: "i32" },
  // int bpf_xdp_query(int ifindex, int flags, struct bpf_xdp_query_opts *opts)
  bpf_xdp_query: { parameters: ["i32", "i32", "buffer"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

/** Functions of libc.so.6; they report an error as -1, its number is in errno (`lastErrno`). */
export const LIBC_SYMBOLS = {
  // int *__errno_location(void)
  __errno_location: { parameters: [], result: "pointer" },
  // int close(int fd)
  close: { parameters: ["i32"], result: "i32" },
  // int fcntl(int fd, int cmd, ... /* int arg */)
  fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
  // int socket(int domain, int type, int protocol)
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  // int ioctl(int fd, unsigned long op, ... /* struct ifreq *arg */)
  ioctl: { parameters: ["i32", "u64", "buffer"], result: "i32" },
  // int clock_gettime(clockid_t clockid, struct timespec *tp)
  clock_gettime: { parameters: ["i32", "buffer"], result: "i32" },
  // int getpagesize(void)
  getpagesize: { parameters: [], result: "i32" },
  // void *mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
  mmap: { parameters: ["pointer", "usize", "i32", "i32", "i32", "i64"], result: "pointer" },
  // int eventfd(unsigned int initval, int flags)
  eventfd: { parameters: ["u32", "i32"], result: "i32" },
  // ssize_t write(int fd, const void *buf, size_t count)
  write: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  // int poll(struct pollfd *fds, nfds_t nfds, int timeout)
  poll: { parameters: ["buffer", "usize", "i32"], result: "i32" },
  // the same, on a thread of its own
  poll_async: {
    name: "poll",
    parameters: ["buffer", "usize", "i32"],
    result: "i32",
    nonblocking: true,
  },
  // unsigned int if_nametoindex(const char *ifname)
  if_nametoindex: { parameters: ["buffer"], result: "u32" },
  // char *if_indextoname(unsigned int ifindex, char ifname[IF_NAMESIZE])
  if_indextoname: { parameters: ["u32", "buffer"], result: "pointer" },
  // int vasprintf(char **strp, const char *fmt, va_list ap)
  // (as an argument, a va_list is a pointer in every 64-bit ABI of Linux)
  vasprintf: { parameters: ["buffer", "pointer", "pointer"], result: "i32" },
  // void free(void *ptr)
  free: { parameters: ["pointer"], result: "void" },
} as const satisfies Deno.ForeignLibraryInterface;

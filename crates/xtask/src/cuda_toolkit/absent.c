/* What becomes of calls to functions that were left out of a program. `BIND` is what `entry.S` calls. */
#include <stdio.h>
#include <unistd.h>

/* As in `entry.S`. */
struct record {
    void *target;
    const char *name;
};

/* sysexits' "a service is unavailable". */
enum { UNAVAILABLE = 69 };

__attribute__((visibility("hidden"))) void *BIND(struct record *record) {
    dprintf(STDERR_FILENO,
            "error: %s is no part of this program\n"
            "hint: candle's kernels for quantized tensors are left out of builds for CUDA; use other tensors\n",
            record->name);
    _exit(UNAVAILABLE);
}

/* Finds a function of a CUDA library when it is first called.
 *
 * `LIBRARY` is the file name of the library, `HINT` says how to get it, `BIND` is what `entry.S` calls.
 * `COMPANION`, where there is one, is a library that it opens itself, by name alone.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* As in `entry.S`. */
struct record {
    void *target;
    const char *name;
};

/* sysexits' "a service is unavailable". */
enum { UNAVAILABLE = 69 };

static void *opened;

static _Noreturn void unavailable(const char *problem, const char *detail, const char *hint) {
    dprintf(STDERR_FILENO, "error: %s %s%s\nhint: %s\n", LIBRARY, problem, detail, hint);
    /* Exit handlers belong to a program that expects to be able to go on. */
    _exit(UNAVAILABLE);
}

/* The library `name` in `folder`. When it is there and cannot be opened, `why` says why. */
static void *open_in(const char *folder, const char *name, char *why, size_t room) {
    char path[4096];
    int length = snprintf(path, sizeof path, "%s/%s", folder, name);
    if (length < 0 || (size_t)length >= sizeof path || access(path, F_OK) != 0)
        return NULL;
    void *found = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!found)
        snprintf(why, room, "%s", dlerror());
    return found;
}

static void *library(void) {
    void *known = __atomic_load_n(&opened, __ATOMIC_ACQUIRE);
    if (known)
        return known;
    const char *folder = secure_getenv("FORERUNNER_CUDA_LIBS");
    char why[4096] = "";
    void *found = NULL;
    if (folder && *folder) {
#ifdef COMPANION
        /* Once it is open, whoever asks for it by name gets it, wherever it came from. */
        open_in(folder, COMPANION, why, sizeof why);
#endif
        found = open_in(folder, LIBRARY, why, sizeof why);
    }
    if (!found)
        found = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!found)
        unavailable("cannot be loaded: ", *why ? why : dlerror(), HINT);
    /* Two threads may both come here: they get the same library. */
    __atomic_store_n(&opened, found, __ATOMIC_RELEASE);
    return found;
}

/* The address of the function that `record` names; later calls go there without asking. */
__attribute__((visibility("hidden"))) void *BIND(struct record *record) {
    void *target = dlsym(library(), record->name);
    if (!target)
        unavailable("has no function ", record->name,
                    "it is older than what this program was built for: update it");
    __atomic_store_n(&record->target, target, __ATOMIC_RELEASE);
    return target;
}

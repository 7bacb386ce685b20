/* The interface of hooks (wit/verify.wit, version 0.1.0) as a C compiler sees it: records in
   memory as the component model lays them out for wasm32. Nothing here needs to be changed. */
#ifndef FORERUNNER_H
#define FORERUNNER_H

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

/* UTF-8 without a zero at its end. */
struct text { const char *at; u32 length; };
#define TEXT(literal) { literal, sizeof literal - 1 }

enum level { DEBUG, INFO, WARNING, ERROR };
enum severity { NOTE, SUSPICION, REJECTS };
enum verdict { ACCEPT, REJECT, UNDECIDED };
enum permission {
    WANT_SOURCE, WANT_PARENT, WANT_METRICS, WANT_LEDGER,
    WANT_SERIES, WANT_PROBES, WANT_ARTIFACTS, WANT_RECOMPUTE
};
enum denied { NOT_GRANTED, NOT_FOUND, TOO_LARGE };

/* What the host hands over. */
struct metric { struct text name; double value; };
struct entry { struct text name; u64 count; };
struct item { struct text name; u64 length; };
struct sample { u64 step; double value; };
struct source_file { struct text path, text; };
struct probe { struct text name; u64 trials, failures; const struct metric *numbers; u32 n_numbers; };

/* An answer of the host: a list of `length` values at `at`, unless `denied` is set. */
struct list { u8 denied; union { u8 why; const void *at; }; u32 length; };

/* What the hook says. */
struct manifest { struct text name, version; const u8 *wants; u32 n_wants; };
struct finding {
    struct text rule;
    u8 severity;
    struct text message;
    /* Zeros: the finding names no place in the evidence. */
    u64 evidence[4];
};
struct report {
    /* Set when the hook could not do its work; `why` says why. */
    u8 failed;
    union {
        struct text why;
        struct {
            u8 verdict;
            const struct finding *findings; u32 n_findings;
            const struct metric *metrics; u32 n_metrics;
        };
    };
};

#ifdef __wasm__
_Static_assert(sizeof(struct list) == 12 && sizeof(struct probe) == 32, "as the host writes them");
_Static_assert(sizeof(struct finding) == 56 && sizeof(struct report) == 24, "as the host reads them");

#define EXPORT(name) __attribute__((export_name(name)))
#define IMPORT(name) \
    __attribute__((import_module("forerunner:verify/evidence@0.1.0"), import_name(name)))

IMPORT("log") void host_log(u32 level, const char *message, u32 length);
IMPORT("metrics") void host_metrics(struct list *metrics);
IMPORT("ledger") void host_ledger(struct list *entries);
IMPORT("probes") void host_probes(struct list *probes);
IMPORT("source") void host_source(struct list *source_files);
IMPORT("parent-diff") void host_parent_diff(struct list *characters);
IMPORT("list-series") void host_list_series(struct list *items);
IMPORT("series") void host_series(const char *name, u32 n, u64 start, u32 length, struct list *samples);
IMPORT("steps") void host_steps(const char *name, u32 n, u64 start, u32 length, struct list *steps);
IMPORT("values") void host_values(const char *name, u32 n, u64 start, u32 length, struct list *values);
IMPORT("list-artifacts") void host_list_artifacts(struct list *items);
IMPORT("artifact") void host_artifact(const char *name, u32 n, u64 offset, u32 length, struct list *bytes);

/* Memory for what the host hands over. Every call of a hook starts anew, so nothing is freed. */
static u8 heap[4 << 20];
static u32 heap_used;

EXPORT("cabi_realloc") void *cabi_realloc(void *old, u32 old_length, u32 align, u32 length) {
    (void)old, (void)old_length; /* The host only allocates. */
    u32 start = (heap_used + align - 1) & -align;
    if (start > sizeof heap || length > sizeof heap - start) __builtin_trap();
    heap_used = start + length;
    return heap + start;
}
#endif
#endif

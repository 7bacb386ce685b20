/* The component around the logic: says what the hook wants, fetches it, and answers. */
#include "judge.h"

/* All that the hook will ever see. wit/verify.wit lists what there is. */
static const u8 wants[] = { WANT_METRICS };
static const struct manifest manifest = { TEXT("@NAME@"), TEXT("0.1.0"), wants, sizeof wants };

EXPORT("describe") const struct manifest *describe(void) { return &manifest; }

static struct finding finding = { TEXT("measured"), REJECTS, { 0, 0 }, { 0 } };
static struct report report;

EXPORT("verify") const struct report *verify(
    const char *environment, u32 environment_length, const char *track, u32 track_length,
    const char *program, u32 program_length, const char *seed, u32 seed_length,
    const char *slice, u32 slice_length) {
    (void)environment, (void)environment_length, (void)track, (void)track_length;
    (void)seed, (void)seed_length, (void)slice, (void)slice_length;
    host_log(INFO, program, program_length);
    struct list metrics;
    host_metrics(&metrics);
    if (metrics.denied) {
        report.failed = 1;
        report.why = (struct text)TEXT("no metrics");
        return &report;
    }
    struct text objection = judge(metrics.at, metrics.length);
    report.verdict = objection.length ? REJECT : ACCEPT;
    if (objection.length) {
        finding.message = objection;
        report.findings = &finding;
        report.n_findings = 1;
    }
    return &report;
}

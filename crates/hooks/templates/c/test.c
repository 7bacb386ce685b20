/* Tests of the logic: `cc -o test test.c && ./test`. */
#include "judge.h"
#include <stdio.h>

int main(void) {
    double zero = 0;
    struct metric good = { TEXT("loss"), 1.5 }, bad = { TEXT("loss"), zero / zero };
    if (judge(&good, 1).length) return puts("a good metric is refused"), 1;
    if (!judge(&bad, 1).length) return puts("a metric that is no number passes"), 1;
    if (!judge(&good, 0).length) return puts("no metric at all passes"), 1;
    return puts("passed"), 0;
}

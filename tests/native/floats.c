/* Whatever the calling thread's floats obey, an answer has the same bits, and afterwards they obey the same.
 * floats BUNDLE.efm. Its threads are the caller's and the library's. */
#define _GNU_SOURCE
#include <edgefm.h>
#include <fenv.h>
#include <stdio.h>
#include <string.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

enum { SIDE = 300 }; /* enough pixels for the preparation to take two threads */

static uint16_t pixels[SIDE * SIDE * 3];

struct answer {
    float logits[16], probabilities[16], embedding[256], heat[256];
};

static int ask(const char* path, int threads, struct answer* answer, edgefm_session* session) {
    edgefm_options options = {.struct_size = sizeof options, .threads = threads};
    edgefm_session* own = NULL;
    if (session == NULL && edgefm_open(path, &options, &own, NULL)) return 1;
    edgefm_image image = {.struct_size = sizeof image, .pixels = pixels, .width = SIDE, .height = SIDE, .channels = 3, .bits = 16};
    edgefm_outputs outputs = {.struct_size = sizeof outputs, .logits = answer->logits, .probabilities = answer->probabilities,
                              .embedding = answer->embedding, .heat = answer->heat};
    memset(answer, 0, sizeof *answer);
    session = session == NULL ? own : session;
    const int failed = edgefm_predict(session, &image, 1, &outputs, NULL) || edgefm_check(session, NULL);
    edgefm_close(own);
    return failed;
}

static int rounding(int mode) {
    return fesetround(mode);
}

static int traps(int which) {
    return feenableexcept(which) == -1;
}

static int denormals(int bits) {
#if defined(__x86_64__)
    _mm_setcsr(_mm_getcsr() | (unsigned)bits);
#endif
    return bits == 0;
}

int main(int argc, char** argv) {
    const struct {
        const char* name;
        int (*set)(int);
        int value;
    } cases[] = {{"up", rounding, FE_UPWARD},         {"down", rounding, FE_DOWNWARD},
                 {"to zero", rounding, FE_TOWARDZERO}, {"traps", traps, FE_DIVBYZERO | FE_INVALID | FE_OVERFLOW | FE_INEXACT},
                 {"denormals", denormals, 0x8040}};
    int failed = 0;
    if (argc != 2) return 2;
    for (int i = 0; i < SIDE * SIDE * 3; ++i) pixels[i] = (uint16_t)(i * 104729LL % 65521);
    edgefm_session *one = NULL, *two = NULL;
    edgefm_options options = {.struct_size = sizeof options, .threads = 1};
    if (edgefm_open(argv[1], &options, &one, NULL)) return 2;
    options.threads = 2;
    if (edgefm_open(argv[1], &options, &two, NULL)) return 2;
    struct answer expected, found;
    if (ask(argv[1], 1, &expected, NULL)) return 2;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        for (int kind = 0; kind < 4; ++kind) {
            fenv_t before;
            fegetenv(&before);
            if (cases[i].set(cases[i].value)) return 2;
            const int mode = fegetround(), except = fegetexcept();
            int wrong = ask(argv[1], 1 + kind % 2, &found, kind < 2 ? NULL : kind == 2 ? one : two);
            wrong |= fegetround() != mode || fegetexcept() != except;
#if defined(__x86_64__)
            wrong |= cases[i].set == denormals && (_mm_getcsr() & 0x8040) != 0x8040;
#endif
            fesetenv(&before);
            wrong |= memcmp(&found, &expected, sizeof found) != 0;
            if (wrong) printf("%s, session %d\n", cases[i].name, kind);
            failed |= wrong;
        }
    }
    edgefm_close(one);
    edgefm_close(two);
    puts(failed ? "an answer differs" : "all answers agree");
    return failed;
}

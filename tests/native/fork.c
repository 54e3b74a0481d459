/* Sessions in a child process: of one thread they work on, of more they fail with a number and can be closed; new ones work.
 * fork BUNDLE.efm. A child that hangs is ended by its alarm. */
#define _POSIX_C_SOURCE 200809L
#include <edgefm.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SIDE = 40 };

static uint16_t pixels[SIDE * SIDE];

static edgefm_session* open_one(const char* path, int threads) {
    edgefm_options options = {.struct_size = sizeof options, .threads = threads};
    edgefm_session* session = NULL;
    if (edgefm_open(path, &options, &session, NULL)) puts("not opened");
    return session;
}

static int ask(edgefm_session* session, float* probabilities, edgefm_error* error) {
    edgefm_image image = {.struct_size = sizeof image, .pixels = pixels, .width = SIDE, .height = SIDE, .channels = 1, .bits = 16};
    edgefm_outputs outputs = {.struct_size = sizeof outputs, .probabilities = probabilities};
    return edgefm_predict(session, &image, 1, &outputs, error);
}

static int same(edgefm_session* session, const float* expected) {
    float found[16] = {0};
    return ask(session, found, NULL) == EDGEFM_OK && memcmp(found, expected, sizeof found) == 0;
}

static int child(const char* path, edgefm_session* one, edgefm_session* three, const float* expected) {
    edgefm_error error = {.struct_size = sizeof error};
    float ignored[16];
    alarm(20);
    if (ask(three, ignored, &error) != EDGEFM_ERROR_ARGUMENT || strstr(error.message, "forked") == NULL) return 3;
    if (edgefm_check(three, NULL) != EDGEFM_ERROR_ARGUMENT) return 4;
    if (!same(one, expected)) return 5;
    edgefm_session* own = open_one(path, 2);
    if (own == NULL || !same(own, expected)) return 6;
    edgefm_close(three);
    edgefm_close(one);
    edgefm_close(own);
    return 0;
}

int main(int argc, char** argv) {
    float expected[16] = {0};
    int status = 0;
    if (argc != 2) return 2;
    for (int i = 0; i < SIDE * SIDE; ++i) pixels[i] = (uint16_t)(i * 7919 % 65521);
    edgefm_session *one = open_one(argv[1], 1), *three = open_one(argv[1], 3);
    if (one == NULL || three == NULL || ask(three, expected, NULL)) return 2;
    const pid_t made = fork();
    if (made == 0) _exit(child(argv[1], one, three, expected));
    waitpid(made, &status, 0);
    const int good = WIFEXITED(status) && WEXITSTATUS(status) == 0 && same(three, expected) && same(one, expected);
    edgefm_close(one);
    edgefm_close(three);
    if (!good) printf("the child ended with %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    return !good;
}

/* EdgeFM's C interface: open a bundle, ask it about images, close it. Not a decoder of image files: pixels come from the
 * caller.
 *
 *     edgefm_error error = {.struct_size = sizeof error};
 *     edgefm_session* session = NULL;
 *     if (edgefm_open("lung.efm", NULL, &session, &error) != EDGEFM_OK) puts(error.message);
 *
 * Sizes. Every struct begins with `struct_size`. Set it to sizeof the struct, and everything that you do not use to 0
 * (`edgefm_image image = {.struct_size = sizeof image};` does both). So programs made for an older header run with a newer
 * library: it reads and writes no more than `struct_size` bytes. Within one ABI version fields are only added at the end.
 *
 * Errors. A function that can fail returns EDGEFM_OK or the number of an error. With an `edgefm_error` it writes the number and
 * one sentence into it, else it says no more than the number: that struct is the caller's last error, and the library keeps
 * none. A function that fails gives nothing back and leaves nothing to be closed; what it wrote to outputs is undefined.
 *
 * Ownership. What the caller passes stays the caller's and is not kept, except the bytes of edgefm_open_memory. What the
 * library hands out (session, texts of a description) belongs to the session and ends with edgefm_close.
 *
 * Threads. There is no global state, but that opening reads the environment variable EDGEFM_ISA, which may cap the instruction
 * set (`isa` of the description says what runs): do not change the environment from another thread meanwhile. Any function may
 * be called from any thread. One session may be used from several threads at once: their answers are the same as one after the
 * other, and the model itself takes them in turns. Only edgefm_close must be the last call on its session. One `edgefm_error`
 * serves one thread at a time. A fork does not take threads along: in a child process a session of several threads answers
 * EDGEFM_ERROR_ARGUMENT and may only be closed; open sessions after the fork.
 *
 * The same image gives the same bits, whatever the number of threads, the other images of the call, and the rounding mode or
 * traps of the calling thread, which are put aside during a call and are as before after it. Of a variant in int8 with up to
 * 8,192 tokens, logits and embedding have the same bits on every processor, too. */
#ifndef EDGEFM_H
#define EDGEFM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define EDGEFM_API __attribute__((visibility("default")))
#else
#define EDGEFM_API
#endif

#define EDGEFM_ABI 1 /* raised when a program made for this header would no longer run */
#define EDGEFM_VERSION "0.1.0"

/* What the library that runs was made as; EDGEFM_ABI and EDGEFM_VERSION are what the program was made with. */
EDGEFM_API uint32_t edgefm_abi(void);
EDGEFM_API const char* edgefm_version(void);

typedef int32_t edgefm_status;
enum {
    EDGEFM_OK = 0,
    EDGEFM_ERROR_ARGUMENT = 1, /* a null pointer, a wrong size, a number out of range, a session of the parent process */
    EDGEFM_ERROR_FILE = 2,     /* the file is absent, empty, no file, or may not be read */
    EDGEFM_ERROR_BUNDLE = 3,   /* not a bundle, damaged anywhere, or a model in it that cannot be run */
    EDGEFM_ERROR_NEWER = 4,    /* a bundle of a format that this library does not know: use a newer library */
    EDGEFM_ERROR_REFUSED = 5,  /* a gate refused this bundle when it was built, and allow_refused is 0 */
    EDGEFM_ERROR_VARIANT = 6,  /* no native variant in it, or not the one asked for */
    EDGEFM_ERROR_IMAGE = 7,    /* these pixels cannot be prepared */
    EDGEFM_ERROR_ANSWER = 8,   /* the model's answer is not finite: do not use it */
    EDGEFM_ERROR_GOLDEN = 9,   /* edgefm_check: this machine does not compute what the bundle says, or it says nothing */
    EDGEFM_ERROR_MEMORY = 10,  /* not enough memory, or no more threads can be started */
    EDGEFM_ERROR_INTERNAL = 11 /* a fault of EdgeFM */
};

typedef struct {
    size_t struct_size;
    edgefm_status status;
    char message[500]; /* one sentence in UTF-8, ending in a zero, cut where it is longer */
} edgefm_error;

typedef struct edgefm_session edgefm_session;

typedef struct {
    size_t struct_size;
    int32_t threads;       /* of preparation, model and the check of the file; 0: as many as the process may use at once, by its
                            * affinity and its control group's quota */
    int32_t images;        /* most images that run through the model together, each needs memory of its own; 0: one */
    int32_t allow_refused; /* not 0: open a bundle that a gate refused, to look at it */
    const char* variant;   /* "native-int8" or "native-fp32"; NULL: int8 if the bundle has it, else fp32 */
} edgefm_options;

/* Opens a bundle and checks every byte of it: SHA-256 of all members, headers, names, the manifest. The file is mapped, not
 * copied: replace it by renaming a new one over it, never by writing into it while a session is open.
 * options: NULL for all zeros. *session: NULL after an error. */
EDGEFM_API edgefm_status edgefm_open(const char* path, const edgefm_options* options, edgefm_session** session,
                                     edgefm_error* error);

/* The same for a bundle in memory. The bytes must stay, unchanged, until edgefm_close. They are used in place if their address
 * is a multiple of 64, else copied. */
EDGEFM_API edgefm_status edgefm_open_memory(const void* data, size_t size, const edgefm_options* options,
                                            edgefm_session** session, edgefm_error* error);

/* Ends the session and everything it handed out. NULL is allowed. */
EDGEFM_API void edgefm_close(edgefm_session* session);

enum { EDGEFM_BINARY = 0, EDGEFM_MULTICLASS = 1, EDGEFM_MULTILABEL = 2, EDGEFM_EMBEDDING = 3 };

typedef struct {
    size_t struct_size;
    const char* id;            /* of the bundle: 64 hexadecimal digits. Compare it with one from a source that you trust */
    const char* name;          /* of the model */
    const char* variant;       /* what runs, "native-int8" */
    const char* isa;           /* the instruction set of the kernels that run */
    const char* refused;       /* why a gate refused the bundle, or NULL */
    int32_t task;              /* EDGEFM_BINARY ... */
    int32_t labels_count;      /* K: logits, probabilities and decisions of one image; 0 for an embedding */
    const char* const* labels; /* [K], UTF-8; labels[1] of a binary task is the positive class */
    const double* thresholds;  /* binary: one; multilabel: [K]; else NULL */
    double temperature;        /* divides the logits */
    int32_t embedding_size;    /* D */
    int32_t heat_side;         /* side of the square heat map; 0: the model has no class token, so there is none */
    int32_t channels;          /* what the model sees: float32 [channels, size, size], made by this library of any image */
    int32_t size;
    double window_low; /* of 16-bit pixels, in stored values; 8-bit pixels are 0 to 255 */
    double window_high;
} edgefm_description;

EDGEFM_API edgefm_status edgefm_describe(const edgefm_session* session, edgefm_description* description, edgefm_error* error);

typedef struct {
    size_t struct_size;
    const void* pixels; /* the top left sample; samples of one row lie side by side, grey or R, G, B or R, G, B, A */
    int64_t width;
    int64_t height;
    int64_t stride;   /* bytes from one row to the next, negative for bottom up; 0: rows lie side by side */
    int32_t channels; /* 1, 3 or 4; the fourth is not read */
    int32_t bits;     /* of a stored sample: 8 or 16. 9 to 15 significant bits are stored in 16, in this machine's byte order */
} edgefm_image;

/* Where an answer goes: NULL for what is not wanted, else room for all images of the call, one after the other. Asking for what
 * the model does not have (K or heat_side is 0) is an error.
 *
 * Decisions are made of probabilities in double, before these are rounded to float: do not make them anew from the floats. Sets
 * of labels (`conformal` of the bundle) are not made here: edgefm.Session in Python has them. */
typedef struct {
    size_t struct_size;
    float* logits;        /* [count, K] */
    float* probabilities; /* [count, K], softmax(logits / temperature), or the sigmoid of a multilabel task */
    uint8_t* decisions;   /* [count, K], 1 where the label holds: exactly one, but for multilabel none to all */
    float* embedding;     /* [count, D] */
    float* heat; /* [count, heat_side, heat_side]: attention of the class token in the last layer, mean over its heads */
} edgefm_outputs;

/* Prepares `count` images as the model was trained, runs it, and decides as the bundle says. */
EDGEFM_API edgefm_status edgefm_predict(edgefm_session* session, const edgefm_image* images, size_t count,
                                        const edgefm_outputs* outputs, edgefm_error* error);

/* Runs the bundle's golden inputs (generated pictures with expected outputs) and compares, as the Python runtime does before it
 * first uses a variant: fp32 within 0.001, int8 within 0.01 of probability and 0.001 of the embedding's cosine of what native
 * int8 itself answered where the bundle was made ("native-int8.logits"), or, where it does not say, 0.25 and 0.1 of the fp32
 * model. A bundle without anything to compare with is an error. One predict per golden input, so for a device's self-test. */
EDGEFM_API edgefm_status edgefm_check(edgefm_session* session, edgefm_error* error);

#ifdef __cplusplus
}
#endif
#endif

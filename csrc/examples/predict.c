/* Runs a bundle on a grey picture: predict BUNDLE.efm PICTURE.pgm. A PGM file (P5) has 8 bits a pixel, or 16, high byte first.
 * gcc -std=c11 predict.c -ledgefm && ./a.out lung.efm picture.pgm */
#include <edgefm.h>
#include <stdio.h>
#include <stdlib.h>

static int fail(const char* what) {
    fprintf(stderr, "predict: %s\n", what);
    return 2;
}

/* The next number of the head, behind white space and lines of comment; -1 if there is none. */
static int read_number(FILE* file) {
    char mark[2];
    int value;
    while (fscanf(file, " %1[#]", mark) == 1)
        for (int c = '#'; c != '\n' && c != EOF;) c = fgetc(file);
    return fscanf(file, "%d", &value) == 1 ? value : -1;
}

/* Reads the picture into image->pixels, which the caller frees. */
static int read_pgm(const char* path, edgefm_image* image) {
    FILE* file = fopen(path, "rb");
    if (file == NULL) return fail("the picture cannot be opened");
    const int is_pgm = fgetc(file) == 'P' && fgetc(file) == '5';
    const int width = read_number(file), height = read_number(file), highest = read_number(file);
    const int sound = is_pgm && width >= 1 && width <= 1 << 15 && height >= 1 && height <= 1 << 15 && highest >= 1 &&
                      highest <= 65535 && fgetc(file) != EOF;
    const size_t bytes = highest > 255 ? 2 : 1, count = sound ? (size_t)width * (size_t)height : 0;
    unsigned char* pixels = sound ? malloc(count * bytes) : NULL;
    const int complete = pixels != NULL && fread(pixels, bytes, count, file) == count;
    fclose(file);
    for (size_t i = 0; complete && bytes == 2 && i < count; ++i)
        ((uint16_t*)(void*)pixels)[i] = (uint16_t)(pixels[2 * i] << 8 | pixels[2 * i + 1]);
    *image = (edgefm_image){.struct_size = sizeof *image, .pixels = pixels, .width = width, .height = height, .channels = 1};
    image->bits = (int32_t)(8 * bytes);
    if (!sound) return fail("the picture is no PGM file of at most 32768 x 32768 pixels");
    return complete ? 0 : fail("the picture is cut short, or there is no memory for it");
}

int main(int argc, char** argv) {
    float probabilities[256];
    uint8_t decisions[256];
    edgefm_error error = {.struct_size = sizeof error};
    edgefm_session* session = NULL;
    edgefm_description about = {.struct_size = sizeof about};
    edgefm_image image = {0};
    edgefm_outputs outputs = {.struct_size = sizeof outputs, .probabilities = probabilities, .decisions = decisions};
    if (argc != 3) return fail("usage: predict BUNDLE.efm PICTURE.pgm");
    int status = read_pgm(argv[2], &image);
    if (status == 0 && (edgefm_open(argv[1], NULL, &session, &error) || edgefm_describe(session, &about, &error))) status = 2;
    if (status == 0 && (about.labels_count < 1 || about.labels_count > 256)) status = fail("it answers no labels, or too many");
    if (status == 0 && edgefm_predict(session, &image, 1, &outputs, &error)) status = 2;
    for (int k = 0; status == 0 && k < about.labels_count; ++k)
        printf("%c %s %.4f\n", decisions[k] ? '*' : ' ', about.labels[k], probabilities[k]);
    if (error.status != EDGEFM_OK) fail(error.message);
    edgefm_close(session);
    free((void*)image.pixels);
    return status;
}

/* A WASI 0.1 command in C. It prints its arguments and $GREETING, and exits with the given code.
 *
 *     hello [CODE [ARG...]]
 *     hello cat PATH              prints a file instead
 *
 * Unlike a component of WASI 0.2, it can exit with any code from 0 to 255.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int cat(const char *path) {
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        perror(path);
        return 1;
    }
    for (int c = fgetc(file); c != EOF; c = fgetc(file)) {
        putchar(c);
    }
    return fclose(file);
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "cat") == 0) {
        return cat(argv[2]);
    }
    printf("hello from c\n");
    printf("argc=%d\n", argc);
    for (int i = 0; i < argc; i++) {
        printf("argv[%d]=%s\n", i, argv[i]);
    }
    const char *greeting = getenv("GREETING");
    printf("GREETING=%s\n", greeting ? greeting : "(not set)");
    return argc > 1 ? atoi(argv[1]) : 0;
}

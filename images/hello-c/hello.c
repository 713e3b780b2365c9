/* A WASI 0.1 command in C: prints its arguments and $GREETING, exits with the code asked for.
 *
 *     hello [CODE [ARG...]]
 *
 * Unlike a component of WASI 0.2, it can tell every code from 0 to 255 apart.
 */
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    printf("hello from c\n");
    printf("argc=%d\n", argc);
    for (int i = 0; i < argc; i++) {
        printf("argv[%d]=%s\n", i, argv[i]);
    }
    const char *greeting = getenv("GREETING");
    printf("GREETING=%s\n", greeting ? greeting : "(not set)");
    return argc > 1 ? atoi(argv[1]) : 0;
}

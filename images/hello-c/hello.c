/* A WASI 0.1 command in C. It prints its arguments and $GREETING, and exits with the given code.
 *
 *     hello [CODE [ARG...]]
 *     hello cat PATH                      prints a file instead
 *     hello try CALL PATH [CALL PATH...]  prints for each call what came of it: "done", or the error
 *
 * Unlike a component of WASI 0.2, it can exit with any code from 0 to 255.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

static int opens(const char *path, int flags) {
    int file = open(path, flags, 0666);
    return file < 0 ? file : close(file);
}

static int list(const char *path) {
    DIR *directory = opendir(path);
    return directory == NULL ? -1 : closedir(directory);
}

/* Opens a file again and again until that fails, and then closes all. */
static int exhaust(const char *path) {
    static int opened[1 << 16];
    const int most = sizeof(opened) / sizeof(opened[0]);
    int count = 0;
    while (count < most && (opened[count] = open(path, O_RDONLY)) >= 0) {
        count++;
    }
    int error = errno, result = count < most ? -1 : 0;
    while (count > 0) {
        close(opened[--count]);
    }
    errno = error;
    return result;
}

/* Makes a call. A call with two paths gets them as FROM:TO. */
static int call(const char *name, char *path) {
    char *to = strchr(path, ':');
    if (to != NULL) {
        *to++ = '\0';
    }
#define IS(other) (strcmp(name, other) == 0)
    return IS("read")            ? opens(path, O_RDONLY)
         : IS("write")           ? opens(path, O_WRONLY | O_TRUNC)
         : IS("make")            ? opens(path, O_WRONLY | O_CREAT | O_EXCL)
         : IS("list")            ? list(path)
         : IS("mkdir")           ? mkdir(path, 0777)
         : IS("unlink")          ? unlink(path)
         : IS("exhaust")         ? exhaust(path)
         : IS("rename") && to    ? rename(path, to)
         : IS("link") && to      ? link(path, to)
         : IS("symlink") && to   ? symlink(path, to)
                                 : (errno = ENOSYS, -1);
#undef IS
}

static int attempts(char **words) {
    for (; words[0] != NULL && words[1] != NULL; words += 2) {
        printf("%s %s: ", words[0], words[1]);
        puts(call(words[0], words[1]) == 0 ? "done" : strerror(errno));
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "cat") == 0) {
        return cat(argv[2]);
    }
    if (argc >= 4 && strcmp(argv[1], "try") == 0) {
        return attempts(argv + 2);
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

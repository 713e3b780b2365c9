/* One behaviour for each first argument. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void copy(FILE *from)
{
    int c;

    if (!from) {
        perror("open");
        exit(1);
    }
    while ((c = getc(from)) != EOF)
        putchar(c);
}

static void files(void)
{
    FILE *out = fopen("/data/out.txt", "w");
    DIR *data = opendir("/data");
    struct dirent *entry;

    if (!out || !data || fputs("written\n", out) < 0 || fclose(out)) {
        perror("/data");
        exit(1);
    }
    copy(fopen("/data/out.txt", "r"));
    while ((entry = readdir(data)))
        puts(entry->d_name);
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";

    if (!strcmp(name, "args"))
        for (int i = 2; i < argc; i++)
            puts(argv[i]);
    else if (!strcmp(name, "env"))
        puts(getenv("GREETING"));
    else if (!strcmp(name, "files"))
        files();
    else if (!strcmp(name, "clock"))
        printf("%lld\n", (long long)time(NULL));
    else if (!strcmp(name, "exit"))
        return 7;
    else if (!strcmp(name, "stdin"))
        copy(stdin);
    else if (!strcmp(name, "panic")) {
        fputs("no such luck\n", stderr);
        abort();
    } else if (!strcmp(name, "cwd"))
        copy(fopen("in.txt", "r"));
    return 0;
}

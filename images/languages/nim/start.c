/* What Nim expects of a C library, and WASI's lacks. */
extern char **environ;
int nim_main(int argc, char **argv, char **env);

/* Nim's main has a third parameter, which WASI's start code does not pass. nim.cfg renames it. */
int main(int argc, char **argv)
{
    return nim_main(argc, argv, environ);
}

/* There are no threads that could share a file. */
int flockfile(void *file)
{
    return file ? 0 : -1;
}

int funlockfile(void *file)
{
    return file ? 0 : -1;
}

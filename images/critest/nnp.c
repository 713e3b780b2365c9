/* Prints the user whose rights it has. It belongs to root and is setuid, which `no_new_privs` disables. */
#include <stdio.h>
#include <unistd.h>

int main(void) {
    printf("Effective uid: %d\n", (int)geteuid());
    return 0;
}

/* Says with whose rights it runs. It belongs to root and is setuid, which `no_new_privs` makes void. */
#include <stdio.h>
#include <unistd.h>

int main(void) {
    printf("Effective uid: %d\n", (int)geteuid());
    return 0;
}

/* A library that says so when it is loaded. */

#include <unistd.h>

__attribute__((constructor)) static void loaded(void) {
    (void)!write(2, "planted code ran\n", 17);
}

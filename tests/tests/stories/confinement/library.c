/* A library that glibc's getaddrinfo(3) loads if /etc/nsswitch.conf names it. It needs no other library. */
static void call(long number, long one, long two, long three) {
    __asm__ volatile("syscall" : "+a"(number) : "D"(one), "S"(two), "d"(three) : "rcx", "r11", "memory");
}

/* Makes a file when it is loaded: open(2) with O_CREAT. */
__attribute__((constructor)) static void loaded(void) {
    call(2, (long)"/native-code-ran", 0100, 0600);
}

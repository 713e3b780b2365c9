//! `hypot` of the C library, which tract calls for complex numbers. glibc has it in a new version since 2.35, so that a shim
//! which is built with such a glibc would not start with an older one. Where these functions are, the linker takes them.
#![allow(unsafe_code)]

/// C17, 7.12.7.3. Its name is the C library's, whose function does the same.
#[unsafe(no_mangle)]
extern "C" fn hypot(x: f64, y: f64) -> f64 {
    libm::hypot(x, y)
}

/// As [`hypot`].
#[unsafe(no_mangle)]
extern "C" fn hypotf(x: f32, y: f32) -> f32 {
    libm::hypotf(x, y)
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_is_the_length_of_a_vector_even_if_the_squares_are_too_large() {
        for (x, y, length) in [(3.0, 4.0, 5.0), (3e300, 4e300, 5e300), (0.0, -2.0, 2.0)] {
            assert!((f64::hypot(x, y) / length - 1.0).abs() < 1e-15, "{x}, {y}");
        }
        assert!((f32::hypot(3e30, 4e30) / 5e30 - 1.0).abs() < 1e-6);
        assert!(f64::hypot(f64::NAN, f64::INFINITY).is_infinite());
        assert!(f32::hypot(f32::NAN, 1.0).is_nan());
    }
}

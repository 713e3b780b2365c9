//! `hypot` of the C library, which tract calls for complex numbers. glibc has a new version of it since 2.35, so that a shim
//! that is built with such a glibc would not start with an older one. The linker prefers these functions to the C library's.
#![allow(unsafe_code)]

/// The length of a vector (C17, 7.12.7.3).
// SAFETY: it takes the place of the C library's function in the whole process, and has the same parameters and result. It does
// not set `errno`, which no function of Rust that calls it can read.
#[unsafe(no_mangle)]
extern "C" fn hypot(x: f64, y: f64) -> f64 {
    libm::hypot(x, y)
}

/// As [`hypot`].
// SAFETY: as for `hypot`.
#[unsafe(no_mangle)]
extern "C" fn hypotf(x: f32, y: f32) -> f32 {
    libm::hypotf(x, y)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_length_of_a_vector_even_if_the_squares_are_too_large() {
        for (x, y, length) in [(3.0, 4.0, 5.0), (3e300, 4e300, 5e300), (0.0, -2.0, 2.0)] {
            assert!((hypot(x, y) / length - 1.0).abs() < 1e-15, "{x}, {y}");
        }
        assert!((hypotf(3e30, 4e30) / 5e30 - 1.0).abs() < 1e-6);
        assert!(hypot(f64::NAN, f64::INFINITY).is_infinite());
        assert!(hypotf(f32::NAN, 1.0).is_nan());
    }
}

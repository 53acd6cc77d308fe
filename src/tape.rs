//! A tape for reverse-mode differentiation.

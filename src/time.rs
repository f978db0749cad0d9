//! Ticks and the timing wheel.

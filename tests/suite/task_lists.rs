//! Lists of tasks and their totals: right, and fast however many there are.

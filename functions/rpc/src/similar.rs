//! Which name somebody may have meant.

/// The name that is most like `wanted`, if one is alike by at least `least` (0 to 1, as PostgREST measures it: how much of the
/// longer name need not be edited).
pub fn most_similar<'a>(
    wanted: &str,
    names: impl Iterator<Item = &'a str>,
    least: f64,
) -> Option<&'a str> {
    let scored = names.map(|name| (similarity(wanted, name), name));
    let best = scored.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (best.0 >= least).then_some(best.1)
}

/// The longest text that is compared, in bytes: a list of parameters is longer than a name.
const LONGEST: usize = 500;

/// 1 for equal names, 0 for such as have nothing in common. What is empty or longer than any that there is, is like none.
fn similarity(a: &str, b: &str) -> f64 {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    match a.len().max(b.len()) {
        1..=LONGEST => strsim::normalized_levenshtein(&a, &b),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_recognised() {
        let names = || ["fetch_next_task", "report_task_result", "extend_lease"].into_iter();
        let meant = |wanted| most_similar(wanted, names(), 0.75);
        assert_eq!(meant("fetch_next_tasks"), Some("fetch_next_task"));
        assert_eq!(meant("report_result"), None);
        assert_eq!(meant("EXTEND_LEAS"), Some("extend_lease"));
        assert_eq!(meant(""), None);
        assert_eq!(meant(&"x".repeat(100_000)), None);
        assert_eq!(similarity("ab", "bca"), 0.0, "three of three are edited");
    }
}

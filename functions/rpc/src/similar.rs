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

/// 1 for equal names, 0 for such as have nothing in common. Names longer than those of Postgres are like none.
fn similarity(a: &str, b: &str) -> f64 {
    let fold = |name: &str| name.to_lowercase().chars().collect::<Vec<_>>();
    let (a, b) = (fold(a), fold(b));
    let longest = a.len().max(b.len());
    if longest == 0 || longest > LONGEST {
        return 0.0;
    }
    1.0 - distance(&a, &b) as f64 / longest as f64
}

/// The longest text that is compared, in characters: a list of parameters is longer than a name.
const LONGEST: usize = 500;

/// How many characters are to be inserted, removed or replaced (Levenshtein's distance).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
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
        assert_eq!(distance(&['a', 'b'], &['b', 'c', 'a']), 3);
    }
}

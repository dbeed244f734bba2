//! What stands on the page to be run: the commands of its `bash` fences, and the operations of its `graphql` fences, in their order.

/// What a fence is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Bash,
    GraphQl,
}

/// A command or an operation, as it is printed.
#[derive(Debug)]
pub struct Step {
    pub language: Language,
    /// The first line of the comment above it, or above the command before it.
    pub title: String,
    /// Without the comment.
    pub text: String,
}

/// All steps of a page.
pub fn steps(page: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut fence: Option<(&str, Vec<&str>)> = None;
    for line in page.lines() {
        match (&mut fence, line.strip_prefix("```")) {
            (None, Some(language)) => fence = Some((language, Vec::new())),
            (Some((language, lines)), Some(_)) => {
                let language = match *language {
                    "bash" => Language::Bash,
                    "graphql" => Language::GraphQl,
                    other => panic!("a fence of {other:?} would not be run"),
                };
                steps.extend(steps_of(language, lines));
                fence = None;
            }
            (Some((_, lines)), None) => lines.push(line),
            (None, None) => (),
        }
    }
    assert!(fence.is_none(), "a fence has no end");
    steps
}

fn steps_of(language: Language, lines: &[&str]) -> Vec<Step> {
    let mut steps = Vec::new();
    let (mut title, mut text) = (String::new(), String::new());
    let mut is_in_comment = false;
    for line in lines.iter().filter(|line| !line.is_empty()) {
        if text.is_empty() && line.starts_with('#') {
            if !is_in_comment {
                title = line.trim_start_matches(['#', ' ']).to_owned();
            }
            is_in_comment = true;
            continue;
        }
        is_in_comment = false;
        text.push_str(line);
        text.push('\n');
        if is_whole(language, &text) {
            let (title, text) = (title.clone(), std::mem::take(&mut text));
            steps.push(Step {
                language,
                title,
                text,
            });
        }
    }
    assert!(text.is_empty(), "{text:?} has no end");
    steps
}

fn is_whole(language: Language, text: &str) -> bool {
    let count = |sign| text.matches(sign).count();
    match language {
        Language::Bash => {
            let goes_on = text.trim_end().ends_with(['\\', '|']);
            !goes_on && count('\'') % 2 == 0
        }
        Language::GraphQl => count('{') == count('}'),
    }
}

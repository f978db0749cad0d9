//! A diff of a small file.

use super::plan::FileChange;

/// The change in the form of `diff -u`, with the whole file as context: our files are a few lines.
pub fn unified(change: &FileChange) -> String {
    let name = |text: &Option<String>| if text.is_some() { change.path.as_str() } else { "/dev/null" };
    let mut text = format!("--- {}\n+++ {}\n", name(&change.before), name(&change.after));
    let (before, after) = (change.before.as_deref().unwrap_or_default(), change.after.as_deref().unwrap_or_default());
    for (mark, line) in lines(&before.lines().collect::<Vec<_>>(), &after.lines().collect::<Vec<_>>()) {
        text.push(mark);
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// Every line of both, with ` ` for those in common, `-` and `+` for those of one: along a longest common subsequence.
fn lines<'a>(before: &[&'a str], after: &[&'a str]) -> Vec<(char, &'a str)> {
    // common[i][j]: the length of the longest common subsequence of before[i..] and after[j..].
    let mut common = vec![vec![0usize; after.len() + 1]; before.len() + 1];
    for i in (0..before.len()).rev() {
        for j in (0..after.len()).rev() {
            common[i][j] =
                if before[i] == after[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut found) = (0, 0, Vec::new());
    while i < before.len() || j < after.len() {
        if i < before.len() && j < after.len() && before[i] == after[j] {
            found.push((' ', before[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == after.len() || (i < before.len() && common[i + 1][j] >= common[i][j + 1]) {
            found.push(('-', before[i]));
            i += 1;
        } else {
            found.push(('+', after[j]));
            j += 1;
        }
    }
    found
}

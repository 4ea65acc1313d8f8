//! Just enough of the language to find the module paths that a file names.

/// The module that a file under `src` is.
pub fn module_of(file: &str) -> Vec<String> {
    let mut parts: Vec<String> = file.trim_end_matches(".rs").split('/').map(String::from).collect();
    if parts.last().is_some_and(|p| p == "mod" || p == "lib") {
        parts.pop();
    }
    parts
}

/// The source with comments and the insides of strings blanked.
pub fn code_only(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let (mut out, mut i) = (String::with_capacity(source.len()), 0);
    let at = |i: usize, text: &str| text.chars().enumerate().all(|(k, c)| chars.get(i + k) == Some(&c));
    while i < chars.len() {
        if at(i, "//") {
            while i < chars.len() && chars[i] != '\n' {
                i += 1;
            }
        } else if at(i, "/*") {
            i += 2;
            while i < chars.len() && !at(i, "*/") {
                i += 1;
            }
            i += 2;
        } else if at(i, "'\"'") {
            i += 3;
        } else if at(i, "r#\"") {
            i += 3;
            while i < chars.len() && !at(i, "\"#") {
                i += 1;
            }
            i += 2;
        } else if chars[i] == '"' {
            i += 1;
            while i < chars.len() && chars[i] != '"' {
                i += if chars[i] == '\\' { 2 } else { 1 };
            }
            i += 1;
        } else {
            out.push(chars[i]);
            i += 1;
        }
    }
    out
}

/// Every path that starts at `crate` or `super`, groups spelt out, from the root of the crate.
pub fn named_paths(module: &[String], code: &str) -> Vec<Vec<String>> {
    let mut out = Vec::new();
    for (word, up) in [("crate::", None), ("super::", Some(1))] {
        for (i, _) in code.match_indices(word) {
            let before = code[..i].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let (mut rest, mut up) = (&code[i + word.len()..], up.unwrap_or(module.len()));
            while let Some(more) = rest.strip_prefix("super::") {
                (rest, up) = (more, up + 1);
            }
            let base = module[..module.len().saturating_sub(up)].to_vec();
            read_tree(&mut rest, base, &mut out);
        }
    }
    out
}

/// Reads `a::b::{c, d::e}` and the like off the front.
fn read_tree(rest: &mut &str, mut prefix: Vec<String>, out: &mut Vec<Vec<String>>) {
    loop {
        *rest = rest.trim_start();
        if let Some(group) = rest.strip_prefix('{') {
            *rest = group;
            loop {
                *rest = rest.trim_start();
                if rest.is_empty() {
                    return;
                }
                if let Some(after) = rest.strip_prefix('}') {
                    *rest = after;
                    return;
                }
                match rest.strip_prefix(',') {
                    Some(after) => *rest = after,
                    None => read_tree(rest, prefix.clone(), out),
                }
            }
        }
        let len = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '*')).unwrap_or(rest.len());
        if len > 0 {
            prefix.push(rest[..len].into());
        }
        *rest = &rest[len..];
        match rest.strip_prefix("::") {
            Some(after) => *rest = after,
            None => {
                out.push(prefix);
                let end = rest.find([',', '}', ';']).unwrap_or(rest.len()); // past `as name`
                *rest = &rest[end..];
                return;
            }
        }
    }
}

/// Is the crate named, as a path or in an import?
pub fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(i, _)| {
        let before = code[..i].chars().next_back();
        let after = &code[i + name.len()..];
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '.')
            && (after.starts_with("::") || (code[..i].ends_with("use ") && after.starts_with(';')))
    })
}

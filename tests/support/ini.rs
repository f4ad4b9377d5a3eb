//! Edits of `registry.ini` as a person makes them: by looking for a line.

/// The last line of a whole file; one without it was cut off while it was saved.
pub const END_LINE: &str = "; end of registry.ini, keep this line last";

/// The section of a user.
pub fn user(domain: &str, id: &str) -> String {
    format!("[Domains\\{domain}\\Users\\{id}]")
}

/// The section of a domain's aliases.
pub fn aliases(domain: &str) -> String {
    format!("[Domains\\{domain}\\Users\\_aliases]")
}

/// The text with `name` of `section` set: the line is replaced, or put below the section's head.
#[track_caller]
pub fn set(text: &str, section: &str, name: &str, value: &str) -> String {
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    let head = lines.iter().position(|line| line.trim_end().eq_ignore_ascii_case(section));
    let head = head.unwrap_or_else(|| panic!("registry.ini has no section {section}:\n{text}"));
    let end = line_end(&lines[head]).to_owned();
    let new = format!("{name}={value}{end}");
    let rest = lines.iter().enumerate().skip(head + 1);
    let found = rest.take_while(|(_, line)| !line.starts_with('[')).find(|(_, line)| has_name(line, name));
    match found.map(|(index, _)| index) {
        Some(index) => lines[index] = new,
        None => lines.insert(head + 1, new),
    }
    lines.concat()
}

/// Like [`set`]; a section that is missing comes on top.
pub fn put(text: &str, section: &str, name: &str, value: &str) -> String {
    match text.lines().any(|line| line.trim_end().eq_ignore_ascii_case(section)) {
        true => set(text, section, name, value),
        false => text.replace(END_LINE, &format!("{section}\r\n{name}={value}\r\n\r\n{END_LINE}")),
    }
}

/// The text with a comment line below a section's head.
#[track_caller]
pub fn comment(text: &str, section: &str, words: &str) -> String {
    let lines = text.split_inclusive('\n').map(|line| {
        let here = line.trim_end().eq_ignore_ascii_case(section);
        if here { format!("{line}; {words}{}", line_end(line)) } else { line.to_owned() }
    });
    lines.collect()
}

fn has_name(line: &str, name: &str) -> bool {
    line.split_once('=').is_some_and(|(left, _)| left.trim().trim_matches('"').eq_ignore_ascii_case(name))
}

fn line_end(line: &str) -> &str {
    if line.ends_with("\r\n") { "\r\n" } else { "\n" }
}

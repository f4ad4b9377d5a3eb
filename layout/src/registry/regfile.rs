//! `.reg` files: import of real exports into a `registry.ini`, and export back to what Windows imports.
//!
//! Nothing is lost on the way: every key (empty ones too), every value name as spelled, every type with its bytes. Keys below
//! `...\Ipswitch\IMail` lose that prefix, the services' keys become `Services\...`, all others keep their full path;
//! `[Imported]` remembers the prefixes as they were spelled, so that [`export`] puts everything back.
//!
//! Files are UTF-16LE or UTF-8 (`Windows Registry Editor Version 5.00`) or in a code page (`REGEDIT4`, whose texts in
//! hexadecimal are in that code page too and become UTF-16). Several files are merged as Windows would, later ones win.
//!
//! Failure: a damaged line is skipped and reported with its number. A file that is no `.reg` file, two places with IMail
//! data, or none, is an [`ImportError`] that says what to do; nothing was written then.
//!
//! Limits: [`super::MAX_FILE_BYTES`] a file, [`MAX_VALUE_BYTES`] a value, [`MAX_TEXT_LINES`] lines of one text.

use std::collections::HashMap;

use super::doc::{Doc, END_LINE, write_section};
use super::model::{DOMAINS, GLOBAL, IMPORTED, PATHS, ROUTES, SERVICES, is_mapping_name};
use super::value::{self, Value, Written};
use super::{MAX_FILE_BYTES, fold, same_name};
use crate::text::{self, CodePage};

/// Largest value that is imported, in bytes (Windows advises against more than 2 KB).
pub const MAX_VALUE_BYTES: usize = 1024 * 1024;
/// Most lines that one quoted text may span: Windows writes line breaks inside texts as they are.
pub const MAX_TEXT_LINES: usize = 200;
/// First line of a file as Windows 2000 and later write it.
const HEADER_5: &str = "Windows Registry Editor Version 5.00";
/// First line of a file as Windows 95, 98 and NT 4 write it.
const HEADER_4: &str = "REGEDIT4";
/// Where IMail's keys stand on 64-bit Windows, for trees that were not imported (IMail is a 32-bit program).
const DEFAULT_ROOT: &str = "HKEY_LOCAL_MACHINE\\SOFTWARE\\Wow6432Node\\Ipswitch\\IMail";
const DEFAULT_SERVICES: &str = "HKEY_LOCAL_MACHINE\\SYSTEM\\CurrentControlSet\\Services";
/// The Windows services whose settings we read.
const OUR_SERVICES: [&str; 3] = ["SMTPD32", "POP3D32", "IMAP4D32"];
/// Written by import, so never exported.
const RETURN_TO_IMAIL: &str = "ReturnToIMail";
const IMPORTED_ROOT: &str = "IMail";
const IMPORTED_SERVICES: &str = "Services";
const HIVES: &[(&str, &str)] = &[
    ("HKLM", "HKEY_LOCAL_MACHINE"),
    ("HKCU", "HKEY_CURRENT_USER"),
    ("HKCR", "HKEY_CLASSES_ROOT"),
    ("HKU", "HKEY_USERS"),
    ("HKCC", "HKEY_CURRENT_CONFIG"),
];

/// A file to import.
#[derive(Clone, Debug)]
pub struct RegFile {
    /// Its name, for messages.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// How to import.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Old directory and new one, as they go into `[Paths]`.
    pub map_dirs: Vec<(String, String)>,
    /// Old address and new one: renames the mapping key and every `Address` that names it.
    pub map_ips: Vec<(String, String)>,
    /// Code page of files that are neither UTF-16 nor UTF-8.
    pub code_page: CodePage,
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ImportError {
    /// A binary hive.
    #[error(
        "{0} is a binary registry hive, not a .reg file. On a Windows machine load it (reg load HKLM\\OLD {0}), export the \
         key (reg export HKLM\\OLD old.reg), unload it (reg unload HKLM\\OLD), and import old.reg"
    )]
    Hive(String),
    /// No `.reg` file.
    #[error(
        "{file} is not a .reg file: its first line should be \"Windows Registry Editor Version 5.00\" or \"REGEDIT4\", \
         and is {found}. Make one on the old server with: reg export HKLM\\SOFTWARE\\Wow6432Node\\Ipswitch imail.reg"
    )]
    NotReg {
        /// The file.
        file: String,
        /// The head of its first line.
        found: String,
    },
    /// Larger than [`super::MAX_FILE_BYTES`].
    #[error("{0} is larger than 512 MiB: export only the key ...\\Ipswitch\\IMail, not the whole registry")]
    TooLarge(String),
    /// IMail data at two places.
    #[error(
        "IMail data stands at two places, {0} and {1}. Only one of them is in use (on 64-bit Windows the one with \
         Wow6432Node): export that one alone and import it"
    )]
    TwoRoots(String, String),
    /// No IMail data.
    #[error(
        "there is no key ...\\Ipswitch\\IMail with Global or Domains in these files. On the old server run: \
         reg export HKLM\\SOFTWARE\\Wow6432Node\\Ipswitch imail.reg (on 32-bit Windows HKLM\\SOFTWARE\\Ipswitch)"
    )]
    NoImail,
    /// No such key below the IMail key.
    #[error("{root} has no key {key}: the export is not complete; export the whole key ...\\Ipswitch\\IMail")]
    Incomplete {
        /// The IMail key.
        root: String,
        /// What is missing below it.
        key: &'static str,
    },
    /// An address that cannot be mapped.
    #[error("--map-ip {0}={1}: {2}")]
    MapIp(String, String, &'static str),
}

/// A line that was skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedLine {
    /// The file.
    pub file: String,
    /// Line number, from 1.
    pub line: usize,
    /// What was expected.
    pub reason: String,
}

/// What an import found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// Number of keys.
    pub keys: usize,
    /// Number of values.
    pub values: usize,
    /// Lines that were skipped.
    pub skipped: Vec<SkippedLine>,
    /// Do the settings of the services lack?
    pub services_missing: bool,
}

/// Makes a registry out of `.reg` files.
pub fn import(files: &[RegFile], options: &ImportOptions) -> Result<(Doc, ImportReport), ImportError> {
    let mut tree = Tree::default();
    let mut report = ImportReport::default();
    for file in files {
        read_file(file, options.code_page, &mut tree, &mut report.skipped)?;
    }
    let places = Places::find(&tree)?;
    for (old, new) in &options.map_ips {
        map_ip(&mut tree, &places, old, new)?;
    }
    let doc = Doc::parse(render(&tree, &places, options).into_bytes()).0;
    report.keys = tree.live().count();
    report.values = tree.live().map(|key| key.values.iter().flatten().count()).sum();
    report.services_missing = places.services.is_none();
    Ok((doc, report))
}

/// The registry as a `.reg` file: UTF-16LE with byte order mark, CRLF. Our own sections and `ReturnToIMail` are left out.
pub fn export(doc: &Doc) -> Vec<u8> {
    let root = doc.get_text(IMPORTED, IMPORTED_ROOT).unwrap_or_else(|| DEFAULT_ROOT.to_owned());
    let services = doc.get_text(IMPORTED, IMPORTED_SERVICES).unwrap_or_else(|| DEFAULT_SERVICES.to_owned());
    let mut out = format!("{HEADER_5}\r\n");
    let mut seen = std::collections::HashSet::new();
    for section in doc.sections() {
        let path = section.path();
        let Some(full) = full_path(path, &root, &services) else { continue };
        if !seen.insert(fold(path).into_owned()) {
            continue;
        }
        out.push_str(&format!("\r\n[{full}]\r\n"));
        for (name, written) in doc.values(path) {
            if !(same_name(path, GLOBAL) && same_name(&name, RETURN_TO_IMAIL)) {
                write_value(&mut out, &name, &written.to_value());
            }
        }
    }
    out.push_str("\r\n");
    let mut bytes = vec![0xFF, 0xFE];
    bytes.extend(out.encode_utf16().flat_map(u16::to_le_bytes));
    bytes
}

/// Where a section stands in the Windows registry; `None` for our own sections.
fn full_path(path: &str, root: &str, services: &str) -> Option<String> {
    let (first, rest) = path.split_once('\\').unwrap_or((path, ""));
    let below = |base: &str| if rest.is_empty() { base.to_owned() } else { format!("{base}\\{rest}") };
    match reserved(first) {
        Some(Reserved::Services) => Some(below(services)),
        Some(Reserved::Ours) => None,
        Some(Reserved::Hive) => Some(path.to_owned()),
        None => Some(format!("{root}\\{path}")),
    }
}

/// First parts of section paths that do not stand for a key directly below the IMail key.
enum Reserved {
    Services,
    Ours,
    Hive,
}

fn reserved(first: &str) -> Option<Reserved> {
    if same_name(first, SERVICES) {
        return Some(Reserved::Services);
    }
    if [PATHS, ROUTES, IMPORTED].iter().any(|ours| same_name(first, ours)) {
        return Some(Reserved::Ours);
    }
    first.get(..5).is_some_and(|head| head.eq_ignore_ascii_case("HKEY_")).then_some(Reserved::Hive)
}

fn write_value(out: &mut String, name: &str, value: &Value) {
    let head = if name.is_empty() { "@=".to_owned() } else { format!("{}=", reg_quoted(name)) };
    out.push_str(&head);
    match Written::from_value(value) {
        Written::Text(text) if !text.contains(['\r', '\n']) => out.push_str(&reg_quoted(&text)),
        Written::Dword(number, _) => out.push_str(&format!("dword:{number:08x}")),
        _ => {
            let tag = match value.kind {
                value::BINARY => "hex:".to_owned(),
                kind => format!("hex({kind:x}):"),
            };
            out.push_str(&tag);
            write_hex(out, head.chars().count() + tag.len(), &value.bytes);
        }
    }
    out.push_str("\r\n");
}

/// Hexadecimal bytes, wrapped as Windows wraps them: a line ends with `,\` before column 80, the next is indented by two.
fn write_hex(out: &mut String, mut column: usize, bytes: &[u8]) {
    const LAST_COLUMN: usize = 77;
    for (number, byte) in bytes.iter().enumerate() {
        let last = number + 1 == bytes.len();
        if column + 3 > LAST_COLUMN && number > 0 {
            out.push_str("\\\r\n  ");
            column = 2;
        }
        out.push_str(&format!("{byte:02x}{}", if last { "" } else { "," }));
        column += 3;
    }
}

fn reg_quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\r', "\\r").replace('\n', "\\n");
    format!("\"{escaped}\"")
}

/// Keys and values as they came, merged.
#[derive(Default)]
struct Tree {
    keys: Vec<Key>,
    index: HashMap<String, usize>,
}

struct Key {
    path: String,
    /// `None` = removed again by a later line.
    values: Vec<Option<(String, Value)>>,
    names: HashMap<String, usize>,
    removed: bool,
}

impl Tree {
    fn key(&mut self, path: &str) -> usize {
        let at = *self.index.entry(fold(path).into_owned()).or_insert(self.keys.len());
        if at == self.keys.len() {
            self.keys.push(Key {
                path: path.to_owned(),
                values: Vec::new(),
                names: HashMap::new(),
                removed: false,
            });
        }
        at
    }

    fn live(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(|key| !key.removed)
    }

    fn find(&self, path: &str) -> Option<&Key> {
        self.keys.get(*self.index.get(&*fold(path))?)
    }

    /// Removes a key and those below it, as `[-path]` in a file asks.
    fn remove(&mut self, path: &str) {
        let folded = fold(path).into_owned();
        let below = format!("{folded}\\");
        for key in &mut self.keys {
            let name = fold(&key.path);
            if *name == *folded || name.starts_with(&below) {
                self.index.remove(&*name);
                key.removed = true;
            }
        }
    }
}

impl Key {
    fn set(&mut self, name: String, value: Value) {
        let at = *self.names.entry(fold(&name).into_owned()).or_insert(self.values.len());
        match self.values.get_mut(at) {
            Some(slot) => *slot = Some((name, value)),
            None => self.values.push(Some((name, value))),
        }
    }

    fn unset(&mut self, name: &str) {
        if let Some(slot) = self.names.remove(&*fold(name)).and_then(|at| self.values.get_mut(at)) {
            *slot = None;
        }
    }

    fn text(&self, name: &str) -> Option<String> {
        let slot = self.values.get(*self.names.get(&*fold(name))?)?;
        Written::from_value(&slot.as_ref()?.1).as_text().map(|text| text.into_owned())
    }
}

/// Where IMail's keys and the services' keys stand in an export.
struct Places {
    root: String,
    services: Option<String>,
}

impl Places {
    fn find(tree: &Tree) -> Result<Places, ImportError> {
        let mut roots: Vec<(String, bool, bool)> = Vec::new();
        let mut services: Vec<String> = Vec::new();
        for key in tree.live() {
            if let Some((root, child)) = imail_root(&key.path) {
                let at = roots.iter().position(|(other, ..)| same_name(other, root));
                let at = at.unwrap_or_else(|| {
                    roots.push((root.to_owned(), false, false));
                    roots.len() - 1
                });
                if let Some(entry) = roots.get_mut(at) {
                    entry.1 |= same_name(child, GLOBAL);
                    entry.2 |= same_name(child, DOMAINS);
                }
            } else if let Some(root) = services_root(&key.path)
                && !services.iter().any(|other| same_name(other, root))
            {
                services.push(root.to_owned());
            }
        }
        roots.retain(|(_, global, domains)| *global || *domains);
        let mut roots = roots.into_iter();
        let (root, global, domains) = roots.next().ok_or(ImportError::NoImail)?;
        if let Some((other, ..)) = roots.next() {
            return Err(ImportError::TwoRoots(root, other));
        }
        for (there, key) in [(global, GLOBAL), (domains, DOMAINS)] {
            if !there {
                return Err(ImportError::Incomplete { root, key });
            }
        }
        // The current control set first, then by number.
        services.sort_by_key(|root| (!fold(root).contains("currentcontrolset"), fold(root).into_owned()));
        Ok(Places { root, services: services.into_iter().next() })
    }

    /// The section in which a key is kept.
    fn section(&self, path: &str) -> String {
        if let Some(rest) = below(path, &self.root)
            && !rest.is_empty()
            && reserved(rest.split('\\').next().unwrap_or_default()).is_none()
        {
            return rest.to_owned();
        }
        match self.services.as_deref().and_then(|services| below(path, services)) {
            Some("") => SERVICES.to_owned(),
            Some(rest) => format!("{SERVICES}\\{rest}"),
            None => path.to_owned(),
        }
    }
}

/// What of `path` is below `root`; empty for the root itself.
fn below<'a>(path: &'a str, root: &str) -> Option<&'a str> {
    let head = path.get(..root.len()).filter(|head| same_name(head, root))?;
    let rest = path.get(head.len()..)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('\\') }
}

/// The IMail key in a path, and the first part below it: the first place that reads `\Ipswitch\IMail`, so that a hive
/// that was loaded under another name works too.
fn imail_root(path: &str) -> Option<(&str, &str)> {
    let mut parts = path.split('\\').peekable();
    let mut length = 0;
    let mut before = "";
    while let Some(part) = parts.next() {
        length += part.len();
        if same_name(part, "IMail") && same_name(before, "Ipswitch") {
            return Some((path.get(..length)?, parts.peek().copied().unwrap_or_default()));
        }
        before = part;
        length += 1;
    }
    None
}

/// The services key in a path of one of the services whose settings we read.
fn services_root(path: &str) -> Option<&str> {
    let parts: Vec<&str> = path.split('\\').collect();
    let at = parts.iter().position(|part| same_name(part, "Services"))?;
    let set = fold(parts.get(at.checked_sub(1)?)?).into_owned();
    let is_set = set == "currentcontrolset"
        || set.strip_prefix("controlset").is_some_and(|n| n.parse::<u32>().is_ok());
    let service = parts.get(at + 1)?;
    let ours = OUR_SERVICES.iter().any(|name| same_name(name, service));
    let length = parts.iter().take(at + 1).map(|part| part.len() + 1).sum::<usize>();
    (is_set && ours).then(|| path.get(..length - 1)).flatten()
}

fn map_ip(tree: &mut Tree, places: &Places, old: &str, new: &str) -> Result<(), ImportError> {
    let refuse = |why| ImportError::MapIp(old.to_owned(), new.to_owned(), why);
    if !is_mapping_name(new) {
        return Err(refuse("the new address must be an IP address, or $virtual and three digits"));
    }
    let domains = format!("{}\\{DOMAINS}", places.root);
    let (from, to) = (format!("{domains}\\{old}"), format!("{domains}\\{new}"));
    if tree.find(&from).is_none() {
        return Err(refuse("the export has no domain with the old address"));
    }
    if tree.find(&to).is_some() {
        return Err(refuse("the export has a domain with the new address already"));
    }
    let prefix = domains.len() + 1 + old.len();
    for key in &mut tree.keys {
        if !key.removed && below(&key.path, &from).is_some() {
            key.path = format!("{to}{}", key.path.get(prefix..).unwrap_or_default());
        } else if !key.removed
            && below(&key.path, &domains).is_some_and(|rest| !rest.contains('\\'))
            && key.text("Address").is_some_and(|address| same_name(&address, old))
        {
            key.set("Address".to_owned(), Value::sz(new));
        }
    }
    tree.index = tree
        .keys
        .iter()
        .enumerate()
        .filter(|(_, key)| !key.removed)
        .map(|(at, key)| (fold(&key.path).into_owned(), at))
        .collect();
    Ok(())
}

/// The text of the new `registry.ini`.
fn render(tree: &Tree, places: &Places, options: &ImportOptions) -> String {
    let mut out = String::new();
    let imported = [(IMPORTED_ROOT, Some(&places.root)), (IMPORTED_SERVICES, places.services.as_ref())];
    let imported = imported.into_iter().filter_map(|(name, root)| Some((name, Value::sz(root?).to_text())));
    write_section(&mut out, IMPORTED, imported);
    let top_dir = tree.find(&format!("{}\\{GLOBAL}", places.root)).and_then(|key| key.text("TopDir"));
    let top_dir = top_dir.filter(|dir| !dir.is_empty());
    let mut paths = options.map_dirs.clone();
    if let Some(top_dir) = top_dir
        && !paths.iter().any(|(old, _)| normal_path(old) == normal_path(&top_dir))
    {
        paths.push((top_dir, ".".to_owned()));
    }
    write_section(&mut out, PATHS, paths.iter().map(|(old, new)| (old.as_str(), Value::sz(new).to_text())));
    for key in tree.live() {
        let section = places.section(&key.path);
        let is_global = same_name(&section, GLOBAL);
        let values = key.values.iter().flatten();
        let values = values.filter(|(name, _)| !(is_global && same_name(name, RETURN_TO_IMAIL)));
        let values = values.map(|(name, value)| (name.as_str(), value.to_text()));
        let ours = is_global.then(|| (RETURN_TO_IMAIL, Value::dword(1).to_text()));
        write_section(&mut out, &section, values.chain(ours));
    }
    out.push_str(END_LINE);
    out.push_str("\r\n");
    out
}

fn read_file(
    file: &RegFile,
    code_page: CodePage,
    tree: &mut Tree,
    skipped: &mut Vec<SkippedLine>,
) -> Result<(), ImportError> {
    if file.bytes.starts_with(b"regf") {
        return Err(ImportError::Hive(file.name.clone()));
    }
    if file.bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(ImportError::TooLarge(file.name.clone()));
    }
    let text = decode(&file.bytes, code_page);
    let header = text.lines().map(clean).find(|line| !line.is_empty()).unwrap_or_default();
    let ansi = header.eq_ignore_ascii_case(HEADER_4);
    if !ansi && !header.eq_ignore_ascii_case(HEADER_5) {
        let head: String = header.chars().take(40).collect();
        return Err(ImportError::NotReg { file: file.name.clone(), found: format!("{head:?}") });
    }
    let lines: Vec<&str> = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).collect();
    let mut reader = Reader { lines, at: 0, ansi: ansi.then_some(code_page), current: None };
    while let Some(line) = reader.lines.get(reader.at).copied() {
        let number = reader.at + 1;
        reader.at += 1;
        if let Err(reason) = reader.line(line, tree) {
            skipped.push(SkippedLine { file: file.name.clone(), line: number, reason: reason.to_owned() });
        }
    }
    Ok(())
}

/// The file as text: by its byte order mark; else UTF-16 if every second byte is NUL; else UTF-8 if valid; else the code page.
fn decode(bytes: &[u8], code_page: CodePage) -> String {
    let units = |bytes: &[u8], read: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(|pair| read(*pair)).collect();
        String::from_utf16_lossy(&units)
    };
    match bytes {
        [0xFF, 0xFE, rest @ ..] => units(rest, u16::from_le_bytes),
        [0xFE, 0xFF, rest @ ..] => units(rest, u16::from_be_bytes),
        [first, 0, second, 0, ..] if *first != 0 && *second != 0 => units(bytes, u16::from_le_bytes),
        _ => text::decode(bytes, code_page).0,
    }
}

fn clean(line: &str) -> &str {
    line.trim_start_matches('\u{feff}').trim_matches([' ', '\t', '\r'])
}

struct Reader<'a> {
    lines: Vec<&'a str>,
    /// The line to read next.
    at: usize,
    /// The code page of texts in hexadecimal, in a `REGEDIT4` file.
    ansi: Option<CodePage>,
    current: Option<usize>,
}

impl Reader<'_> {
    /// Reads one line, and those that continue it.
    fn line(&mut self, raw: &str, tree: &mut Tree) -> Result<(), &'static str> {
        let line = clean(raw);
        if line.is_empty()
            || line.starts_with(';')
            || [HEADER_4, HEADER_5].iter().any(|h| h.eq_ignore_ascii_case(line))
        {
            return Ok(());
        }
        if let Some(rest) = line.strip_prefix('[') {
            self.current = None;
            let path = rest.strip_suffix(']');
            let path = path.filter(|path| is_hive_path(path.strip_prefix('-').unwrap_or(path))).ok_or(
                "a key such as [HKEY_LOCAL_MACHINE\\SOFTWARE\\...]; the values below it are skipped",
            )?;
            match path.strip_prefix('-') {
                Some(removed) => tree.remove(&full_hive(removed)),
                None => self.current = Some(tree.key(&full_hive(path))),
            }
            return Ok(());
        }
        // Blanks at the end of the line count if a text goes on on the next one.
        let line = raw.trim_start_matches(['\u{feff}', ' ', '\t']);
        let (name, text) = match line.strip_prefix('@') {
            Some(rest) => (String::new(), rest),
            None => reg_unquote(line).ok_or("a name in quotes, @, or a key in brackets")?,
        };
        let text = text.trim_start().strip_prefix('=').ok_or("a = behind the name")?.trim_start();
        let value = self.value(text)?;
        let key = self
            .current
            .and_then(|at| tree.keys.get_mut(at))
            .ok_or("a key in brackets before the first value")?;
        match value {
            Some(value) if value.bytes.len() > MAX_VALUE_BYTES => return Err("a value of at most 1 MiB"),
            Some(value) => key.set(name, value),
            None => key.unset(&name),
        }
        Ok(())
    }

    /// The value behind the `=`; `None` for `-`, which removes it.
    fn value(&mut self, text: &str) -> Result<Option<Value>, &'static str> {
        if text.starts_with('"') {
            let (text, rest) = match reg_unquote(text) {
                Some((text, rest)) => (text, rest.to_owned()),
                None => self.text_of_several_lines(text).ok_or("a closing quote")?,
            };
            let rest = rest.trim_start();
            return if rest.is_empty() || rest.starts_with(';') {
                Ok(Some(Value::sz(&text)))
            } else {
                Err("nothing behind the closing quote")
            };
        }
        if text.split(';').next().unwrap_or_default().trim() == "-" {
            return Ok(None);
        }
        let (tag, data) = text.split_once(':').ok_or("a text in quotes, dword:, hex: or hex(n):")?;
        let tag = tag.trim().to_ascii_lowercase();
        let tagged = match tag.as_str() {
            "dword" | "hex" => true,
            other => other.starts_with("hex("),
        };
        if !tagged {
            return Err("a text in quotes, dword:, hex: or hex(n):");
        }
        let data = if tag == "dword" { data.to_owned() } else { self.continued(data)? };
        let data = data.split(';').next().unwrap_or_default().trim();
        match Written::parse(&format!("{tag}:{data}"))? {
            Written::Hex(kind, bytes) => Ok(Some(Value { kind, bytes: self.hex_bytes(kind, bytes)? })),
            other => Ok(Some(other.to_value())),
        }
    }

    /// Hexadecimal data with the lines that continue it.
    fn continued(&mut self, first: &str) -> Result<String, &'static str> {
        let mut data = first.trim_end().to_owned();
        while data.ends_with('\\') {
            data.pop();
            match self.lines.get(self.at).map(|line| clean(line)) {
                Some(next) if next.starts_with(|c: char| c.is_ascii_hexdigit()) || next == "\\" => {
                    data.push_str(next);
                    self.at += 1;
                }
                Some("") | None => return Ok(data),
                Some(_) => return Err("more bytes on the line after the backslash"),
            }
        }
        Ok(data)
    }

    /// A text that goes on over line breaks. Gives up, and takes nothing, if no line closes it before what looks like
    /// the next value or key.
    fn text_of_several_lines(&mut self, first: &str) -> Option<(String, String)> {
        let mut whole = first.to_owned();
        for taken in 1..=MAX_TEXT_LINES {
            let next = *self.lines.get(self.at + taken - 1)?;
            if next.starts_with("[HK") || (next.starts_with('"') && next.contains("\"=")) {
                return None;
            }
            whole.push_str("\r\n");
            whole.push_str(next);
            if let Some((text, rest)) = reg_unquote(&whole) {
                let rest = rest.to_owned();
                self.at += taken;
                return Some((text, rest));
            }
        }
        None
    }

    /// Texts in a `REGEDIT4` file are in its code page; those that are UTF-16 all the same have a NUL in every second byte.
    fn hex_bytes(&self, kind: u32, bytes: Vec<u8>) -> Result<Vec<u8>, &'static str> {
        let Some(code_page) = self.ansi else { return Ok(bytes) };
        let (pairs, odd) = bytes.as_chunks::<2>();
        let is_utf16 = odd.is_empty() && pairs.iter().all(|pair| pair[1] == 0);
        if !matches!(kind, value::SZ | value::EXPAND_SZ | value::MULTI_SZ) || is_utf16 {
            return Ok(bytes);
        }
        let text = text::decode_strict(&bytes, code_page).ok_or("text in the code page of the file")?;
        Ok(text.encode_utf16().flat_map(u16::to_le_bytes).collect())
    }
}

/// Reads the quoted text that `text` begins with; gives it and what follows. `\\` and `\"` are escapes, `\r` and `\n` too
/// (Wine writes them); any other backslash stands for itself.
fn reg_unquote(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('"')?;
    let mut out = String::new();
    loop {
        let at = rest.find(['"', '\\'])?;
        out.push_str(rest.get(..at)?);
        let marked = rest.get(at..)?;
        if let Some(after) = marked.strip_prefix('"') {
            return Some((out, after));
        }
        let mut chars = marked.chars();
        chars.next();
        match chars.next()? {
            '\\' => out.push('\\'),
            '"' => out.push('"'),
            'r' => out.push('\r'),
            'n' => out.push('\n'),
            other => {
                out.push('\\');
                out.push(other);
            }
        }
        rest = chars.as_str();
    }
}

/// Does the path begin with a hive, and hold no control character? No other can be a key that IMail made.
fn is_hive_path(path: &str) -> bool {
    if path.chars().any(char::is_control) {
        return false;
    }
    let first = path.split('\\').next().unwrap_or_default();
    matches!(reserved(first), Some(Reserved::Hive))
        || HIVES.iter().any(|(short, _)| short.eq_ignore_ascii_case(first))
}

/// The path with the name of its hive spelled out.
fn full_hive(path: &str) -> String {
    let (first, rest) = path.split_once('\\').unwrap_or((path, ""));
    match HIVES.iter().find(|(short, _)| short.eq_ignore_ascii_case(first)) {
        Some((_, long)) if rest.is_empty() => (*long).to_owned(),
        Some((_, long)) => format!("{long}\\{rest}"),
        None => path.to_owned(),
    }
}

fn normal_path(path: &str) -> String {
    path.replace('/', "\\").trim_end_matches('\\').to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ROOT: &str = "HKEY_LOCAL_MACHINE\\SOFTWARE\\Wow6432Node\\Ipswitch\\IMail";

    fn utf16(text: &str) -> Vec<u8> {
        let mut bytes = vec![0xFF, 0xFE];
        bytes.extend(text.replace('\n', "\r\n").encode_utf16().flat_map(u16::to_le_bytes));
        bytes
    }

    fn file(bytes: Vec<u8>) -> RegFile {
        RegFile { name: "a.reg".into(), bytes }
    }

    fn import_text(text: &str) -> Result<(Doc, ImportReport), ImportError> {
        import(&[file(utf16(text))], &ImportOptions::default())
    }

    fn sample() -> String {
        format!(
            "Windows Registry Editor Version 5.00\n\n[HKEY_LOCAL_MACHINE\\SOFTWARE\\Wow6432Node\\Ipswitch]\n\n[{ROOT}]\n\"Version\"=\"12.4\"\n\n\
             [{ROOT}\\Global]\n\"HostName\"=\"mail.example.com\"\n\"TopDir\"=\"C:\\\\IMail\"\n\"Say\"=\"a \\\"b\\\"\"\n\n[{ROOT}\\Domains]\n\n\
             [{ROOT}\\Domains\\192.0.2.10]\n\"Official\"=\"mail.example.com\"\n\"Aliases\"=hex(7):65,00,78,00,61,00,6d,00,70,00,6c,00,65,\\\n  00,2e,00,6e,00,65,00,74,00,00,00\n\n\
             [{ROOT}\\Domains\\mail.example.com]\n\"Address\"=\"192.0.2.10\"\n\"MaxSize\"=dword:00a00000\n\n\
             [{ROOT}\\Domains\\mail.example.com\\Users\\mike]\n@=\"default\"\n\"FullName\"=hex:ff,fe,71,5c,30,75\n\"Password\"=\"DFD8CED0E0\"\n\"Flags\"=dword:00000080\n\n\
             [{ROOT}\\Domains\\mail.example.com\\Users\\ann]\n\"Password\"=\"XYZ\"\n\"Note\"=\"two\nlines\"\n\n\
             [{ROOT}\\Domains\\mail.example.com\\Users\\_aliases]\n\"fax\"=\"|C:\\\\fax.exe\"\n\"staff\"=\"D:\\\\lists\\\\staff.lst\"\n\"imailsrv\"=\"|C:\\\\IMail\\\\imailsrv.exe x\"\n\
             \"postmaster\"=\"root\"\n\n[{ROOT}\\Paths]\n\"real\"=\"key\"\n\n[{ROOT}\\Empty]\n\n"
        )
    }

    #[test]
    fn imports_a_real_looking_export() {
        let (doc, report) = import_text(&sample()).unwrap();
        assert_eq!(Doc::parse(doc.render()).1, []);
        assert!(doc.has_end_line());
        assert_eq!(doc.get_text("Imported", "IMail").as_deref(), Some(ROOT));
        assert_eq!(doc.get_text("Paths", "C:\\IMail").as_deref(), Some("."));
        assert_eq!(doc.get_number("Global", "ReturnToIMail"), Some(1));
        assert_eq!(doc.get_text("Global", "Say").as_deref(), Some("a \"b\""));
        assert_eq!(doc.get_text(&format!("{ROOT}\\Paths"), "real").as_deref(), Some("key"));
        assert!(
            doc.has_section("Empty")
                && doc.has_section("HKEY_LOCAL_MACHINE\\SOFTWARE\\Wow6432Node\\Ipswitch")
        );
        let user = "Domains\\mail.example.com\\Users\\";
        assert_eq!(doc.get(&format!("{user}mike"), "FullName"), Some(Written::Utf16("山田".into())));
        assert_eq!(doc.get_text(&format!("{user}mike"), "").as_deref(), Some("default"));
        assert_eq!(doc.get_text(&format!("{user}ann"), "Note").as_deref(), Some("two\r\nlines"));
        let aliases = doc.get("Domains\\192.0.2.10", "Aliases");
        assert_eq!(aliases, Some(Written::Multi(vec!["example.net".into()], true)));
        assert!(report.services_missing && report.skipped.is_empty());
    }

    #[test]
    fn export_gives_the_file_back() {
        let (doc, _) = import_text(&sample()).unwrap();
        let exported = String::from_utf16(
            &export(&doc)[2..]
                .as_chunks::<2>()
                .0
                .iter()
                .map(|pair| u16::from_le_bytes(*pair))
                .collect::<Vec<_>>(),
        )
        .unwrap();
        let original = sample().replace(
            "\"two\nlines\"",
            "hex(1):74,00,77,00,6f,00,0d,00,0a,00,6c,00,69,00,6e,00,65,00,73,00,\\\n  00,00",
        );
        let unwrapped = |text: &str| text.replace("\r\n", "\n").replace("\\\n  ", "");
        assert_eq!(unwrapped(&exported), unwrapped(&original).trim_end().to_owned() + "\n\n");
        assert!(exported.lines().filter(|line| line.starts_with("  ")).all(|line| line.len() <= 80));
    }

    #[test]
    fn services_and_control_sets() {
        let system = "Windows Registry Editor Version 5.00\n\n[HKEY_LOCAL_MACHINE\\SYSTEM\\ControlSet001\\Services\\SMTPD32\\Parameters]\n\"A\"=\"1\"\n\
             [HKEY_LOCAL_MACHINE\\SYSTEM\\CurrentControlSet\\Services\\SMTPD32]\n\"Start\"=dword:2\n\
             [HKEY_LOCAL_MACHINE\\SYSTEM\\CurrentControlSet\\Services\\SMTPD32\\Parameters]\n\"A\"=\"2\"\n";
        let files = [file(utf16(&sample())), file(system.as_bytes().to_vec())];
        let (doc, report) = import(&files, &ImportOptions::default()).unwrap();
        assert!(!report.services_missing);
        assert_eq!(doc.get_text("Services\\SMTPD32\\Parameters", "A").as_deref(), Some("2"));
        let other = "HKEY_LOCAL_MACHINE\\SYSTEM\\ControlSet001\\Services\\SMTPD32\\Parameters";
        assert_eq!(doc.get_text(other, "A").as_deref(), Some("1"));
    }

    #[test]
    fn regedit4_in_cp932() {
        let mut bytes = b"REGEDIT4\r\n\r\n[HKEY_LOCAL_MACHINE\\SOFTWARE\\Ipswitch\\IMail\\Global]\r\n\"HostName\"=\"a.jp\"\r\n\"Name\"=\"".to_vec();
        bytes.extend(b"\x95\x5c\x8e\xa6");
        bytes.extend(b"\"\r\n\"M\"=hex(7):95,5c,00,61,00,00\r\n\"U\"=hex(7):61,00,00,00\r\n\"B\"=hex:95,5c\r\n[HKEY_LOCAL_MACHINE\\SOFTWARE\\Ipswitch\\IMail\\Domains\\a.jp]\r\n");
        let (doc, report) = import(&[file(bytes)], &ImportOptions::default()).unwrap();
        assert_eq!(report.skipped, []);
        assert_eq!(doc.get_text("Global", "Name").as_deref(), Some("表示"));
        assert_eq!(doc.get("Global", "M"), Some(Written::Multi(vec!["表".into(), "a".into()], false)));
        assert_eq!(doc.get("Global", "U"), Some(Written::Multi(vec!["a".into()], true)));
        assert_eq!(doc.get("Global", "B"), Some(Written::Hex(value::BINARY, vec![0x95, 0x5c])));
    }

    #[test]
    fn damaged_lines_are_skipped_with_their_numbers() {
        let root = "[HKEY_LOCAL_MACHINE\\SOFTWARE\\Ipswitch\\IMail";
        let text = format!(
            "Windows Registry Editor Version 5.00\n\n\"early\"=\"x\"\n{root}\\Global]\n\"HostName\"=\"a\"\nnonsense\n\"Open\"=\"no end\n\"Good\"=\"1\"\n\
             \"H\"=hex:zz\n\"C\"=hex:00,\\\n\"D\"=dword:00000001\n\"E\"=link:1\n[broken\n\"lost\"=\"1\"\n{root}\\Domains]\n\"gone\"=\"1\"\n\"gone\"=-\n\
             {root}\\Domains\\old\\Users]\n[-HKLM\\SOFTWARE\\Ipswitch\\IMail\\domains\\OLD]\n{root}\\Global]\n\"good\"=\"2\"\n"
        );
        let (doc, report) = import_text(&text).unwrap();
        let lines: Vec<usize> = report.skipped.iter().map(|skipped| skipped.line).collect();
        assert_eq!(lines, [3, 6, 7, 9, 10, 12, 13, 14]);
        assert_eq!(doc.get_text("Global", "Good").as_deref(), Some("2"));
        assert_eq!(doc.get_number("Global", "D"), Some(1));
        assert_eq!(doc.get("Domains", "gone"), None);
        assert!(!doc.has_section("Domains\\old\\Users"));
    }

    #[test]
    fn refusals_say_what_to_do() {
        let five = "Windows Registry Editor Version 5.00\n";
        let at = |root: &str| {
            format!("{five}[HKLM\\SOFTWARE\\{root}\\Global]\n[HKLM\\SOFTWARE\\{root}\\Domains]\n")
        };
        let two = format!("{}{}", at("Ipswitch\\IMail"), at("Wow6432Node\\Ipswitch\\IMail"));
        for (bytes, part) in [
            (b"regf....".to_vec(), "reg load"),
            (b"From: someone\n".to_vec(), "reg export"),
            (Vec::new(), "reg export"),
            (utf16(five), "reg export"),
            (utf16(&two), "two places"),
            (utf16(&format!("{five}[HKLM\\SOFTWARE\\Ipswitch\\IMail\\Global]\n")), "no key Domains"),
            (utf16(&format!("{five}[HKLM\\SOFTWARE\\Ipswitch\\IMail\\Domains]\n")), "no key Global"),
        ] {
            let error = import(&[file(bytes)], &ImportOptions::default()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn maps_addresses_and_directories() {
        let options = ImportOptions {
            map_dirs: vec![("D:\\lists".into(), "lists".into()), ("c:/imail/".into(), ".".into())],
            map_ips: vec![("192.0.2.10".into(), "10.0.0.1".into())],
            ..ImportOptions::default()
        };
        let (doc, _) = import(&[file(utf16(&sample()))], &options).unwrap();
        assert_eq!(doc.get_text("Domains\\10.0.0.1", "Official").as_deref(), Some("mail.example.com"));
        assert!(!doc.has_section("Domains\\192.0.2.10"));
        assert_eq!(doc.get_text("Domains\\mail.example.com", "Address").as_deref(), Some("10.0.0.1"));
        assert_eq!(doc.values("Paths").len(), 2);
        for (old, new) in [("192.0.2.99", "10.0.0.1"), ("192.0.2.10", "name"), ("192.0.2.10", "192.0.2.10")] {
            let options =
                ImportOptions { map_ips: vec![(old.into(), new.into())], ..ImportOptions::default() };
            assert!(import(&[file(utf16(&sample()))], &options).is_err(), "{old} {new}");
        }
    }

    /// Keys, values, types and bytes, as a set.
    fn tree_of(bytes: Vec<u8>) -> Vec<(String, String, u32, Vec<u8>)> {
        let mut tree = Tree::default();
        let mut skipped = Vec::new();
        read_file(&file(bytes), CodePage::Japanese, &mut tree, &mut skipped).unwrap();
        assert_eq!(skipped, []);
        let mut rows = Vec::new();
        for key in tree.live() {
            rows.push((key.path.clone(), String::new(), u32::MAX, vec![]));
            rows.extend(
                key.values
                    .iter()
                    .flatten()
                    .map(|(name, value)| (key.path.clone(), name.clone(), value.kind, value.bytes.clone())),
            );
        }
        rows.sort();
        rows
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn export_and_import_again_is_the_same_tree(
            rows in prop::collection::vec(("[ -Z^-~山]{1,6}(\\\\[a-z=;\"]{1,3})?", "[ -~山]{0,6}", 0u32..13, prop::collection::vec(any::<u8>(), 0..60)), 0..12))
        {
            let mut text = format!("{HEADER_5}\n\n[{ROOT}\\Global]\n\n[{ROOT}\\Domains]\n");
            for (key, name, kind, bytes) in rows {
                text.push_str(&format!("\n[{ROOT}\\{key}]\n"));
                write_value(&mut text, &name, &Value { kind, bytes });
            }
            let first = utf16(&text.replace("\r\n", "\n"));
            let (doc, _) = import(&[file(first.clone())], &ImportOptions::default()).unwrap();
            prop_assert_eq!(Doc::parse(doc.render()).1, []);
            let exported = export(&doc);
            prop_assert_eq!(tree_of(exported.clone()), tree_of(first));
            let (again, _) = import(&[file(exported.clone())], &ImportOptions::default()).unwrap();
            prop_assert_eq!(export(&again), exported);
        }

        #[test]
        fn any_bytes_are_harmless(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut text = b"REGEDIT4\n[HKLM\\Ipswitch\\IMail\\Global]\n[HKLM\\Ipswitch\\IMail\\Domains]\n".to_vec();
            text.extend(bytes);
            if let Ok((doc, _)) = import(&[file(text)], &ImportOptions::default()) {
                let _ = export(&doc);
            }
        }
    }
}

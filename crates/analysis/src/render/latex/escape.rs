//! Text in LaTeX, for a document in its default encoding: every character that is special there, and every one outside ASCII, as a command.

use unicode_normalization::UnicodeNormalization;

/// The text in commands that LaTeX has without any package. Words between backticks are set as code.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let parts: Vec<&str> = text.split('`').collect();
    let closed = parts.len() - usize::from(parts.len().is_multiple_of(2));
    for (at, part) in parts.iter().enumerate() {
        if at >= closed {
            escaped.push_str("\\textasciigrave{}");
        }
        if at % 2 == 1 && at < closed {
            escaped.push_str("\\texttt{");
            words(part, &mut escaped);
            escaped.push('}');
        } else {
            words(part, &mut escaped);
        }
    }
    escaped
}

/// Text without backticks.
fn words(text: &str, escaped: &mut String) {
    // Composed characters apart from their accents, which LaTeX writes before a letter.
    let characters: Vec<char> = text.nfd().collect();
    let mut at = 0;
    while let Some(&c) = characters.get(at) {
        let before = at.checked_sub(1).map(|before| characters[before]);
        let after = characters.get(at + 1).copied();
        if let Some(accent) = after.and_then(accent).filter(|_| c.is_ascii_alphabetic()) {
            escaped.push_str(&format!("\\{accent}{{{c}}}"));
            at += 2;
            continue;
        }
        match c {
            '-' => escaped.push_str(dash(before, after)),
            _ => character(c, escaped),
        }
        at += 1;
    }
}

/// A minus where a number follows a gap, a hyphen elsewhere; two of them would become a dash.
fn dash(before: Option<char>, after: Option<char>) -> &'static str {
    let opens = before.is_none_or(|c| c.is_whitespace() || "([{/".contains(c));
    match after {
        Some(c) if opens && (c.is_ascii_digit() || c == '.') => "$-$",
        Some('-') => "-{}",
        _ => "-",
    }
}

fn character(c: char, escaped: &mut String) {
    match c {
        '&' | '%' | '$' | '#' | '_' | '{' | '}' => escaped.extend(['\\', c]),
        '\\' => escaped.push_str("\\textbackslash{}"),
        '~' => escaped.push_str("\\textasciitilde{}"),
        '^' => escaped.push_str("\\textasciicircum{}"),
        // The default font has other signs in the places of these.
        '<' | '>' | '|' => escaped.extend(['$', c, '$']),
        '"' => escaped.push_str("''"),
        // An empty line would end the argument of a caption.
        _ if c.is_whitespace() || c.is_control() => escaped.push(' '),
        _ if c.is_ascii() => escaped.push(c),
        _ => match in_math(c).map(|name| format!("${name}$")).or_else(|| in_text(c).map(str::to_owned)) {
            Some(command) => escaped.push_str(&command),
            // No font of the default encoding has it: its number says which it was.
            None => escaped.push_str(&format!("[U+{:04X}]", u32::from(c))),
        },
    }
}

/// The accent command of a combining character.
fn accent(c: char) -> Option<&'static str> {
    Some(match c {
        '\u{300}' => "`",
        '\u{301}' => "'",
        '\u{302}' => "^",
        '\u{303}' => "~",
        '\u{304}' => "=",
        '\u{306}' => "u",
        '\u{307}' => ".",
        '\u{308}' => "\"",
        '\u{30a}' => "r",
        '\u{30b}' => "H",
        '\u{30c}' => "v",
        '\u{323}' => "d",
        '\u{327}' => "c",
        _ => return None,
    })
}

/// Letters and signs of text.
fn in_text(c: char) -> Option<&'static str> {
    Some(match c {
        '–' | '‒' => "--",
        '—' | '―' => "---",
        '‐' | '\u{2011}' => "-",
        '‘' | '‛' => "`",
        '’' | '′' => "'",
        '“' => "``",
        '”' | '″' => "''",
        '„' => ",,",
        '…' => "\\dots{}",
        '†' => "\\dag{}",
        '‡' => "\\ddag{}",
        '§' => "\\S{}",
        '¶' => "\\P{}",
        '©' => "\\copyright{}",
        '£' => "\\pounds{}",
        '•' => "\\textbullet{}",
        'ß' => "\\ss{}",
        'æ' => "\\ae{}",
        'Æ' => "\\AE{}",
        'œ' => "\\oe{}",
        'Œ' => "\\OE{}",
        'ø' => "\\o{}",
        'Ø' => "\\O{}",
        'ł' => "\\l{}",
        'Ł' => "\\L{}",
        'ı' => "\\i{}",
        '¡' => "!`",
        '¿' => "?`",
        '\u{200b}'..='\u{200d}' | '\u{feff}' => "",
        _ => return None,
    })
}

/// Signs of mathematics, which stand between dollars.
fn in_math(c: char) -> Option<&'static str> {
    Some(match c {
        '±' => "\\pm",
        '∓' => "\\mp",
        '−' => "-",
        '×' => "\\times",
        '÷' => "\\div",
        '·' | '⋅' | '∙' => "\\cdot",
        '√' => "\\surd",
        '∞' => "\\infty",
        '≤' => "\\le",
        '≥' => "\\ge",
        '≠' => "\\ne",
        '≈' => "\\approx",
        '≡' => "\\equiv",
        '∝' => "\\propto",
        '≪' => "\\ll",
        '≫' => "\\gg",
        '→' => "\\to",
        '←' => "\\leftarrow",
        '↔' => "\\leftrightarrow",
        '⇒' => "\\Rightarrow",
        '↑' => "\\uparrow",
        '↓' => "\\downarrow",
        '∈' => "\\in",
        '∑' => "\\sum",
        '∏' => "\\prod",
        '∂' => "\\partial",
        '∇' => "\\nabla",
        '∥' | '‖' => "\\|",
        '⊙' => "\\odot",
        '⊗' => "\\otimes",
        '⊕' => "\\oplus",
        '°' => "^{\\circ}",
        'µ' => "\\mu",
        '⁰' => "^{0}",
        '¹' => "^{1}",
        '²' => "^{2}",
        '³' => "^{3}",
        '⁴' => "^{4}",
        'ᵀ' => "^{T}",
        '₀' => "_{0}",
        '₁' => "_{1}",
        '₂' => "_{2}",
        other => return greek(other),
    })
}

/// Greek letters; those that look like Latin ones have no command.
fn greek(c: char) -> Option<&'static str> {
    const SMALL: [&str; 25] = [
        "\\alpha",
        "\\beta",
        "\\gamma",
        "\\delta",
        "\\epsilon",
        "\\zeta",
        "\\eta",
        "\\theta",
        "\\iota",
        "\\kappa",
        "\\lambda",
        "\\mu",
        "\\nu",
        "\\xi",
        "o",
        "\\pi",
        "\\rho",
        "\\varsigma",
        "\\sigma",
        "\\tau",
        "\\upsilon",
        "\\varphi",
        "\\chi",
        "\\psi",
        "\\omega",
    ];
    const LARGE: [&str; 25] = [
        "A",
        "B",
        "\\Gamma",
        "\\Delta",
        "E",
        "Z",
        "H",
        "\\Theta",
        "I",
        "K",
        "\\Lambda",
        "M",
        "N",
        "\\Xi",
        "O",
        "\\Pi",
        "P",
        "",
        "\\Sigma",
        "T",
        "\\Upsilon",
        "\\Phi",
        "X",
        "\\Psi",
        "\\Omega",
    ];
    match c {
        'α'..='ω' => SMALL.get(c as usize - 'α' as usize).copied(),
        'Α'..='Ω' => LARGE.get(c as usize - 'Α' as usize).copied().filter(|name| !name.is_empty()),
        'ϵ' => Some("\\epsilon"),
        'ϕ' => Some("\\phi"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::escape;

    #[test]
    fn signs_are_commands() {
        let cases = [
            ("ΔW = α·B·A, |x| ≤ −1", "$\\Delta$W = $\\alpha$$\\cdot$B$\\cdot$A, $|$x$|$ $\\le$ $-$1"),
            (
                "50% & more_of #1 {x} $5 ~ ^ \\",
                "50\\% \\& more\\_of \\#1 \\{x\\} \\$5 \\textasciitilde{} \\textasciicircum{} \\textbackslash{}",
            ),
            ("p < 0.05 \"so\" – it’s", "p $<$ 0.05 ''so'' -- it's"),
            ("[-0.30, 2.76] -64.8% all-linear --set", "[$-$0.30, 2.76] $-$64.8\\% all-linear -{}-set"),
            ("under `against_it` on", "under \\texttt{against\\_it} on"),
            ("a ` alone", "a \\textasciigrave{} alone"),
            ("Müller, Łukasz, naïve, Ångström", "M\\\"{u}ller, \\L{}ukasz, na\\\"{i}ve, \\r{A}ngstr\\\"{o}m"),
            ("two\n\nlines", "two  lines"),
            ("中", "[U+4E2D]"),
        ];
        for (text, latex) in cases {
            assert_eq!(escape(text), latex, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_outside_ascii_is_left_and_groups_are_closed(text in "\\PC{0,40}") {
            let escaped = escape(&text);
            prop_assert!(escaped.is_ascii(), "{escaped}");
            let mut depth = 0_i32;
            let mut characters = escaped.chars();
            while let Some(c) = characters.next() {
                match c {
                    '\\' => { characters.next(); }
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                prop_assert!(depth >= 0, "{escaped}");
            }
            prop_assert_eq!(depth, 0, "{}", escaped);
        }
    }
}

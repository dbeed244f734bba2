//! Which texts the alphabet of GSM has (3GPP TS 23.038, the default alphabet and its extension). Others go as UCS-2, where fewer characters
//! fit a part; a provider that isn't told so replaces what it can't write.

const ALPHABET: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";
const EXTENSION: &str = "\u{c}^{}\\[~]|€";

/// Whether all of a text can be written in it.
pub fn has(text: &str) -> bool {
    text.chars()
        .all(|c| ALPHABET.contains(c) || EXTENSION.contains(c))
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_the_alphabet_has() {
        assert!(super::has("Grüße, 5 € [ok]\n"));
        for text in ["`", "ç", "日本", "😀", "\t"] {
            assert!(!super::has(text), "{text}");
        }
        assert_eq!(super::ALPHABET.chars().count(), 127, "128 with the escape");
    }
}

//! Telephone numbers as E.164 has them.

/// A plus and 7 to 15 digits, of which the first is not 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number(String);

impl Number {
    /// Reads a number. Spaces, hyphens, dots and brackets, with which people group digits, are left out.
    ///
    /// # Errors
    /// Why it is none, in words that follow the field's name.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let grouping = |c: &char| !" -.()".contains(*c);
        let number: String = text.chars().filter(grouping).collect();
        let digits = number.strip_prefix('+').unwrap_or_default();
        let is_one = (7..=15).contains(&digits.len())
            && !digits.starts_with('0')
            && digits.bytes().all(|byte| byte.is_ascii_digit());
        match is_one {
            true => Ok(Self(number)),
            false => Err("is not one number as E.164 has it, such as +4915112345678"),
        }
    }

    /// With its plus.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Without its plus, as some providers want it.
    pub fn digits(&self) -> &str {
        &self.0[1..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_several_spellings() {
        for text in [
            "+4915112345678",
            "+49 151 1234-5678",
            "+49 (151) 12.345.678",
        ] {
            let number = Number::parse(text).expect(text);
            assert_eq!(number.as_str(), "+4915112345678");
            assert_eq!(number.digits(), "4915112345678");
        }
    }

    #[test]
    fn nothing_but_one_number_is_taken() {
        for text in [
            "",
            "+",
            "n",
            "4915112345678",
            "004915112345678",
            "+0915112345678",
            "+491511",
            "+4915112345678901",
            "+4915112345678,+4915112345679",
            "+4915112345678;+4915112345679",
            "+4915112345678\r\n",
            "+4915112345678&From=x",
            "+４９１５１１２３４５６７８",
            "whatsapp:+4915112345678",
            "+49151+12345678",
        ] {
            assert!(Number::parse(text).is_err(), "{text:?}");
        }
    }
}

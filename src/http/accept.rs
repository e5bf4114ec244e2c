//! Content negotiation: `Accept-Encoding` and `Accept` with their weights (RFC 9110, 12).
//!
//! A malformed element is ignored. The caller knows which representations exist.

use arrayvec::ArrayVec;

use super::token::{list, trim};

/// A weight in thousandths, 0 to 1000. Zero: not acceptable.
type Weight = u16;

const FULL: Weight = 1000;

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// No coding.
    Identity,
    /// `gzip` (RFC 1952)
    Gzip,
    /// `br` (RFC 7932)
    Brotli,
    /// `zstd` (RFC 8878)
    Zstd,
}

/// The number of codings.
const CODINGS: usize = 4;

impl Coding {
    /// The name in `Content-Encoding`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }

    fn from_name(name: &[u8]) -> Option<Self> {
        let is = |text: &str| name.eq_ignore_ascii_case(text.as_bytes());
        match name.len() {
            2 if is("br") => Some(Self::Brotli),
            4 if is("gzip") => Some(Self::Gzip),
            4 if is("zstd") => Some(Self::Zstd),
            // RFC 9110, 8.4.1.3: an old name of gzip.
            6 if is("x-gzip") => Some(Self::Gzip),
            8 if is("identity") => Some(Self::Identity),
            _ => None,
        }
    }
}

/// The codings that a client accepts, with their weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AcceptEncoding {
    named: [Option<Weight>; CODINGS],
    others: Option<Weight>,
}

impl AcceptEncoding {
    /// Parses all `Accept-Encoding` values together. Without any, only the identity is accepted:
    /// RFC 9110 would permit every coding, but a client without the field rarely decodes one.
    pub fn parse<'b>(values: impl Iterator<Item = &'b [u8]>) -> Self {
        let mut accepted = Self::default();
        for element in values.flat_map(list) {
            let (name, parameters) = split_parameters(element);
            let Some(weight) = weight(parameters) else { continue };
            if name == b"*" {
                accepted.others = Some(weight);
            } else if let Some(coding) = Coding::from_name(name) {
                accepted.named[coding as usize] = Some(weight);
            }
        }
        accepted
    }

    /// The acceptable codings of `offers`, the best first; with equal weights in the order of
    /// `offers`. The identity is always an offer and, unless the client gives it a weight, the
    /// last.
    pub fn choose(&self, offers: &[Coding]) -> Preference {
        let mut ranked = ArrayVec::<(Weight, Coding), CODINGS>::new();
        for &offer in offers.iter().filter(|offer| **offer != Coding::Identity).chain([&Coding::Identity]) {
            let (weight, is_acceptable) = self.rank(offer);
            if !is_acceptable || ranked.iter().any(|&(_, known)| known == offer) {
                continue;
            }
            // Insertion sort: after all with the same weight. There is room for each coding once.
            let at = ranked.iter().take_while(|&&(other, _)| other >= weight).count();
            ranked.insert(at, (weight, offer));
        }
        Preference(ranked.into_iter().map(|(_, coding)| coding).collect())
    }

    /// The weight of a coding, and whether it may be sent at all.
    fn rank(&self, coding: Coding) -> (Weight, bool) {
        match (coding, self.named[coding as usize], self.others) {
            (_, Some(weight), _) => (weight, weight > 0),
            // Acceptable unless excluded, but not requested.
            (Coding::Identity, None, others) => (0, others != Some(0)),
            (Coding::Gzip | Coding::Brotli | Coding::Zstd, None, others) => {
                let weight = others.unwrap_or(0);
                (weight, weight > 0)
            }
        }
    }
}

/// Acceptable codings, the best first. Empty: the client excludes even the identity, and a 406 may
/// be sent.
#[derive(Clone, Debug)]
pub struct Preference(ArrayVec<Coding, CODINGS>);

impl Preference {
    /// The codings in order.
    pub fn as_slice(&self) -> &[Coding] {
        &self.0
    }

    /// The best one.
    pub fn best(&self) -> Option<Coding> {
        self.as_slice().first().copied()
    }
}

/// The media type of `offers` with the highest weight in `accept`; with equal weights the first.
/// Without an `Accept`, the first; `None` if none is acceptable. Parameters other than the weight
/// are ignored.
pub fn preferred_type<'o>(accept: Option<&str>, offers: &[&'o str]) -> Option<&'o str> {
    let Some(accept) = accept else { return offers.first().copied() };
    let mut best: Option<(Weight, &str)> = None;
    for offer in offers {
        let weight = type_weight(accept.as_bytes(), offer);
        if weight > best.map_or(0, |(weight, _)| weight) {
            best = Some((weight, offer));
        }
    }
    best.map(|(_, offer)| offer)
}

/// The weight of the most specific range that includes `offer`.
fn type_weight(accept: &[u8], offer: &str) -> Weight {
    let (main, _) = offer.split_once('/').unwrap_or((offer, ""));
    let mut found = (0, 0);
    for element in list(accept) {
        let (range, parameters) = split_parameters(element);
        let precision = match range.strip_suffix(b"/*") {
            _ if range.eq_ignore_ascii_case(offer.as_bytes()) => 3,
            Some(range) if range.eq_ignore_ascii_case(main.as_bytes()) => 2,
            Some(b"*") => 1,
            Some(_) | None => continue,
        };
        if let Some(weight) = weight(parameters)
            && precision > found.0
        {
            found = (precision, weight);
        }
    }
    found.1
}

/// An element's name, and what follows its first semicolon.
fn split_parameters(element: &[u8]) -> (&[u8], &[u8]) {
    match element.iter().position(|&byte| byte == b';') {
        Some(at) => (trim(&element[..at]), &element[at + 1..]),
        None => (element, &[]),
    }
}

/// The weight among `parameters`: 1 if there is none, `None` if it is malformed.
fn weight(parameters: &[u8]) -> Option<Weight> {
    for parameter in parameters.split(|&byte| byte == b';').map(trim) {
        if let [b'q' | b'Q', b'=', value @ ..] = parameter {
            return thousandths(value);
        }
    }
    Some(FULL)
}

/// `0`, `0.`, `0.5`, `1.000`: at most three decimals, at most 1 (RFC 9110, 12.4.2).
fn thousandths(value: &[u8]) -> Option<Weight> {
    let (whole, decimals) = match value {
        [whole] => (whole, &[][..]),
        [whole, b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    let mut weight = match whole {
        b'0' => 0,
        b'1' => FULL,
        _ => return None,
    };
    let mut unit = 100;
    for digit in decimals {
        if !digit.is_ascii_digit() {
            return None;
        }
        weight += u16::from(digit - b'0') * unit;
        unit /= 10;
    }
    (weight <= FULL).then_some(weight)
}

#[cfg(test)]
mod tests {
    use super::Coding::{Brotli, Gzip, Identity, Zstd};
    use super::*;

    const OFFERS: [Coding; 3] = [Brotli, Zstd, Gzip];

    fn chosen(value: &str) -> Vec<Coding> {
        AcceptEncoding::parse([value.as_bytes()].into_iter()).choose(&OFFERS).as_slice().to_vec()
    }

    #[test]
    fn row_57_codings_by_weight_then_by_offer() {
        assert_eq!(chosen("gzip, deflate, br, zstd"), [Brotli, Zstd, Gzip, Identity]);
        assert_eq!(chosen("gzip;q=0.8, br;q=0.3"), [Gzip, Brotli, Identity]);
        assert_eq!(chosen("GZIP ; Q=0.5 , x-unknown"), [Gzip, Identity]);
        assert_eq!(chosen("x-gzip"), [Gzip, Identity]);
        assert_eq!(chosen("identity, gzip;q=0.5"), [Identity, Gzip]);
        assert_eq!(chosen("gzip, identity"), [Gzip, Identity]);
        assert_eq!(chosen("br;q=0, gzip"), [Gzip, Identity]);
    }

    #[test]
    fn row_57_the_star_stands_for_what_is_not_named() {
        assert_eq!(chosen("*"), [Brotli, Zstd, Gzip, Identity]);
        assert_eq!(chosen("gzip, *;q=0.5"), [Gzip, Brotli, Zstd, Identity]);
        assert_eq!(chosen("gzip, *;q=0"), [Gzip]);
        assert_eq!(chosen("*;q=0"), []);
        assert_eq!(chosen("*;q=0, identity;q=0.1"), [Identity]);
    }

    #[test]
    fn row_57_the_identity_is_acceptable_unless_excluded() {
        assert_eq!(chosen(""), [Identity]);
        assert_eq!(chosen("identity;q=0"), []);
        assert_eq!(chosen("identity;q=0, gzip;q=0.1"), [Gzip]);
        assert_eq!(AcceptEncoding::parse(std::iter::empty()).choose(&OFFERS).as_slice(), [Identity]);
    }

    #[test]
    fn malformed_elements_count_as_not_sent() {
        for bad in ["gzip;q=2", "gzip;q=0.1234", "gzip;q=", "gzip;q=x", "gzip;q=-1", "gzip;q=1.1", ";;,,=;"] {
            assert_eq!(chosen(bad), [Identity], "{bad}");
        }
    }

    #[test]
    fn several_fields_are_one_list_and_offers_count_once() {
        let accepted = AcceptEncoding::parse([&b"br;q=0.1"[..], b"gzip"].into_iter());
        assert_eq!(accepted.choose(&[Gzip, Gzip, Brotli, Identity, Zstd, Brotli]).as_slice(), [Gzip, Brotli, Identity]);
        assert_eq!(accepted.choose(&[]).best(), Some(Identity));
    }

    #[test]
    fn media_types_by_weight_then_precision_then_offer() {
        const HTML: &str = "text/html";
        const JSON: &str = "application/json";
        let preferred = |accept| preferred_type(Some(accept), &[HTML, JSON]);
        assert_eq!(preferred_type(None, &[HTML, JSON]), Some(HTML));
        assert_eq!(preferred("*/*"), Some(HTML));
        assert_eq!(preferred("application/json"), Some(JSON));
        assert_eq!(preferred("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"), Some(HTML));
        assert_eq!(preferred("application/json, */*;q=0.5"), Some(JSON));
        assert_eq!(preferred("text/*;q=0.3, application/*;q=0.4"), Some(JSON));
        assert_eq!(preferred("text/html;q=0, */*"), Some(JSON));
        assert_eq!(preferred("TEXT/HTML;charset=utf-8;q=1"), Some(HTML));
        assert_eq!(preferred("image/png"), None);
        assert_eq!(preferred(""), None);
    }
}

//! Content negotiation: `Accept-Encoding` and `Accept` with their weights (RFC 9110, 12).
//!
//! A malformed element is ignored. The caller knows which representations exist.

use arrayvec::ArrayVec;

use super::Coding;
use super::token::{list, trim};

/// A weight in thousandths, 0 to 1000. Zero: not acceptable.
type Weight = u16;

const FULL: Weight = 1000;

/// The number of representations to choose from: one for each coding, and the identity.
const REPRESENTATIONS: usize = Coding::ALL.len() + 1;

/// The codings that a client accepts, with their weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AcceptEncoding {
    codings: [Option<Weight>; Coding::ALL.len()],
    identity: Option<Weight>,
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
            } else if name.eq_ignore_ascii_case(b"identity") {
                accepted.identity = Some(weight);
            } else if let Some(coding) = Coding::from_name(name) {
                accepted.codings[coding as usize] = Some(weight);
            }
        }
        accepted
    }

    /// The acceptable codings of `offers`, the best first; with equal weights in the order of
    /// `offers`. The identity is always an offer and, unless the client gives it a weight, the
    /// last.
    pub fn choose(&self, offers: &[Coding]) -> Preference {
        let mut ranked = ArrayVec::<(Weight, Option<Coding>), REPRESENTATIONS>::new();
        for offer in offers.iter().copied().map(Some).chain([None]) {
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
    fn rank(&self, coding: Option<Coding>) -> (Weight, bool) {
        match coding {
            Some(coding) => {
                let weight = self.codings[coding as usize].or(self.others).unwrap_or(0);
                (weight, weight > 0)
            }
            // Acceptable unless excluded, but last unless requested.
            None => match self.identity {
                Some(weight) => (weight, weight > 0),
                None => (0, self.others != Some(0)),
            },
        }
    }
}

/// Acceptable codings, the best first. Empty: the client excludes even the identity, and a 406 may
/// be sent.
#[derive(Clone, Debug)]
pub struct Preference(ArrayVec<Option<Coding>, REPRESENTATIONS>);

impl Preference {
    /// The codings in order; `None` is the identity.
    pub fn as_slice(&self) -> &[Option<Coding>] {
        &self.0
    }

    /// The codings that the client prefers to the identity, in order.
    pub fn codings(&self) -> impl Iterator<Item = Coding> {
        self.0.iter().map_while(|coding| *coding)
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
    use super::*;

    const OFFERS: [Coding; 3] = [Coding::Brotli, Coding::Zstd, Coding::Gzip];

    /// The names of the representations that a client with this `Accept-Encoding` accepts, in order.
    fn chosen(value: &str) -> String {
        names(AcceptEncoding::parse([value.as_bytes()].into_iter()), &OFFERS)
    }

    fn names(accepted: AcceptEncoding, offers: &[Coding]) -> String {
        let preference = accepted.choose(offers);
        let name = |coding: &Option<Coding>| coding.map_or("identity", Coding::name);
        preference.as_slice().iter().map(name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn row_57_codings_by_weight_then_by_offer() {
        assert_eq!(chosen("gzip, deflate, br, zstd"), "br zstd gzip identity");
        assert_eq!(chosen("gzip;q=0.8, br;q=0.3"), "gzip br identity");
        assert_eq!(chosen("GZIP ; Q=0.5 , x-unknown"), "gzip identity");
        assert_eq!(chosen("x-gzip"), "gzip identity");
        assert_eq!(chosen("identity, gzip;q=0.5"), "identity gzip");
        assert_eq!(chosen("gzip, identity"), "gzip identity");
        assert_eq!(chosen("br;q=0, gzip"), "gzip identity");
    }

    #[test]
    fn row_57_the_star_stands_for_what_is_not_named() {
        assert_eq!(chosen("*"), "br zstd gzip identity");
        assert_eq!(chosen("gzip, *;q=0.5"), "gzip br zstd identity");
        assert_eq!(chosen("gzip, *;q=0"), "gzip");
        assert_eq!(chosen("*;q=0"), "");
        assert_eq!(chosen("*;q=0, identity;q=0.1"), "identity");
    }

    #[test]
    fn row_57_the_identity_is_acceptable_unless_excluded() {
        assert_eq!(chosen(""), "identity");
        assert_eq!(chosen("identity;q=0"), "");
        assert_eq!(chosen("identity;q=0, gzip;q=0.1"), "gzip");
        assert_eq!(names(AcceptEncoding::parse(std::iter::empty()), &OFFERS), "identity");
    }

    #[test]
    fn malformed_elements_count_as_not_sent() {
        for bad in ["gzip;q=2", "gzip;q=0.1234", "gzip;q=", "gzip;q=x", "gzip;q=-1", "gzip;q=1.1", ";;,,=;"] {
            assert_eq!(chosen(bad), "identity", "{bad}");
        }
    }

    #[test]
    fn several_fields_are_one_list_and_offers_count_once() {
        let accepted = AcceptEncoding::parse([&b"br;q=0.1"[..], b"gzip"].into_iter());
        let offers = [Coding::Gzip, Coding::Gzip, Coding::Brotli, Coding::Zstd, Coding::Brotli];
        assert_eq!(names(accepted, &offers), "gzip br identity");
        assert_eq!(names(accepted, &[]), "identity");
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

//! CycloneDX in XML (`bom-1.x.xsd`).

use super::{Affected, Analysis, Bom, Component, Rating, Vulnerability};
use crate::formats::LIMIT;
use crate::formats::json::time;
use crate::formats::xml::{Element, Xml};
use crate::report::{ReadError, Report};

const NAMESPACE: &str = "http://cyclonedx.org/schema/bom/";

/// Whether the outermost element is that of CycloneDX.
pub(crate) fn is_bom(root: &Element) -> bool {
    root.namespace.starts_with(NAMESPACE) && root.name == "bom"
}

/// Reads what is inside the outermost element.
pub(crate) fn read(xml: &mut Xml<'_>, root: &Element) -> Result<Report, ReadError> {
    let mut bom = Bom {
        spec_version: root.namespace[NAMESPACE.len()..].to_owned(),
        serial: root.attribute("serialNumber").map(str::to_owned),
        ..Bom::default()
    };
    let mut once = Once::default();
    within(xml, &root.namespace, |xml, element| match element.name.as_str() {
        "metadata" => {
            once.check(xml, "metadata")?;
            metadata(xml, &element, &mut bom)
        }
        "components" => {
            once.check(xml, "components")?;
            components(xml, &element, &mut bom.components)?;
            bom.has_components = !bom.components.is_empty();
            Ok(())
        }
        "vulnerabilities" => {
            once.check(xml, "vulnerabilities")?;
            within(xml, &element.namespace, |xml, element| {
                if element.name == "vulnerability" {
                    has_room(bom.vulnerabilities.len())?;
                    bom.vulnerabilities.push(vulnerability(xml, &element)?);
                }
                Ok(())
            })
        }
        _ => Ok(()),
    })?;
    xml.finish()?;
    bom.report()
}

/// Elements that may be there once.
#[derive(Default)]
struct Once(Vec<&'static str>);

impl Once {
    fn check(&mut self, xml: &Xml<'_>, name: &'static str) -> Result<(), ReadError> {
        if self.0.contains(&name) {
            return Err(xml.error(format!("the element `{name}` is there twice")));
        }
        self.0.push(name);
        Ok(())
    }
}

fn has_room(have: usize) -> Result<(), ReadError> {
    if have < LIMIT { Ok(()) } else { Err(ReadError::TooMany { limit: LIMIT }) }
}

/// Each element of the format inside the current one.
fn within(
    xml: &mut Xml<'_>,
    namespace: &str,
    mut each: impl FnMut(&mut Xml<'_>, Element) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    xml.children(|xml, element| if element.namespace == namespace { each(xml, element) } else { Ok(()) })
}

fn metadata(xml: &mut Xml<'_>, parent: &Element, bom: &mut Bom) -> Result<(), ReadError> {
    let mut once = Once::default();
    within(xml, &parent.namespace, |xml, element| {
        match element.name.as_str() {
            "timestamp" => {
                once.check(xml, "timestamp")?;
                let text = xml.text()?;
                bom.created = time(&text).ok_or_else(|| xml.error("the timestamp is not a time"))?;
            }
            "component" => {
                once.check(xml, "component")?;
                let mut inner = Vec::new();
                bom.subject = Some(component(xml, &element, &mut inner)?);
                bom.components.extend(inner);
            }
            "tools" => tools(xml, &element, bom)?,
            _ => {}
        }
        Ok(())
    })
}

/// Programs, since 1.5 as components.
fn tools(xml: &mut Xml<'_>, parent: &Element, bom: &mut Bom) -> Result<(), ReadError> {
    within(xml, &parent.namespace, |xml, element| match element.name.as_str() {
        "tool" | "component" => {
            let one = component(xml, &element, &mut Vec::new())?;
            bom.tool.get_or_insert((one.name, one.version));
            Ok(())
        }
        "components" => tools(xml, &element, bom),
        _ => Ok(()),
    })
}

fn components(xml: &mut Xml<'_>, parent: &Element, into: &mut Vec<Component>) -> Result<(), ReadError> {
    within(xml, &parent.namespace, |xml, element| {
        if element.name == "component" {
            has_room(into.len())?;
            let mut inner = Vec::new();
            into.push(component(xml, &element, &mut inner)?);
            into.append(&mut inner);
        }
        Ok(())
    })
}

fn component(xml: &mut Xml<'_>, parent: &Element, inner: &mut Vec<Component>) -> Result<Component, ReadError> {
    let mut one = Component {
        kind: parent.attribute("type").unwrap_or_default().to_owned(),
        reference: parent.attribute("bom-ref").map(str::to_owned),
        ..Component::default()
    };
    within(xml, &parent.namespace, |xml, element| {
        match element.name.as_str() {
            "name" => one.name = xml.text()?,
            "version" => one.version = Some(xml.text()?),
            "purl" => one.purl = Some(xml.text()?),
            "hashes" => within(xml, &element.namespace, |xml, hash| {
                let algorithm = hash.attribute("alg").unwrap_or_default().to_owned();
                one.hashes.push((algorithm, xml.text()?));
                Ok(())
            })?,
            "properties" => within(xml, &element.namespace, |xml, property| {
                let name = property.attribute("name").unwrap_or_default().to_owned();
                one.properties.push((name, xml.text()?));
                Ok(())
            })?,
            "components" => components(xml, &element, inner)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(one)
}

fn vulnerability(xml: &mut Xml<'_>, parent: &Element) -> Result<Vulnerability, ReadError> {
    let mut one = Vulnerability::default();
    let mut once = Once::default();
    within(xml, &parent.namespace, |xml, element| {
        match element.name.as_str() {
            "id" => {
                once.check(xml, "id")?;
                one.id = xml.text()?;
            }
            "references" => within(xml, &element.namespace, |xml, reference| {
                within(xml, &reference.namespace, |xml, element| {
                    if element.name == "id" {
                        one.references.push(xml.text()?);
                    }
                    Ok(())
                })
            })?,
            "ratings" => within(xml, &element.namespace, |xml, element| {
                one.ratings.push(rating(xml, &element)?);
                Ok(())
            })?,
            "affects" => within(xml, &element.namespace, |xml, element| {
                one.affects.push(affected(xml, &element)?);
                Ok(())
            })?,
            "analysis" => {
                once.check(xml, "analysis")?;
                one.analysis = analysis(xml, &element)?;
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(one)
}

fn rating(xml: &mut Xml<'_>, parent: &Element) -> Result<Rating, ReadError> {
    let mut rating = Rating::default();
    within(xml, &parent.namespace, |xml, element| {
        match element.name.as_str() {
            "severity" => rating.severity = Some(xml.text()?),
            "method" => rating.method = Some(xml.text()?),
            "score" => {
                let score = xml.text()?;
                rating.score = Some(score.parse().map_err(|_| xml.error("the score is not a number"))?);
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(rating)
}

fn affected(xml: &mut Xml<'_>, parent: &Element) -> Result<Affected, ReadError> {
    let mut one = Affected::default();
    within(xml, &parent.namespace, |xml, element| {
        match element.name.as_str() {
            "ref" => one.reference = xml.text()?,
            "versions" => within(xml, &element.namespace, |xml, version| {
                let mut pair = (None, None);
                within(xml, &version.namespace, |xml, element| {
                    match element.name.as_str() {
                        "version" => pair.0 = Some(xml.text()?),
                        "status" => pair.1 = Some(xml.text()?),
                        _ => {}
                    }
                    Ok(())
                })?;
                one.versions.push(pair);
                Ok(())
            })?,
            _ => {}
        }
        Ok(())
    })?;
    if one.reference.is_empty() {
        return Err(xml.error("what is affected has no ref"));
    }
    Ok(one)
}

fn analysis(xml: &mut Xml<'_>, parent: &Element) -> Result<Analysis, ReadError> {
    let mut one = Analysis::default();
    let mut once = Once::default();
    let mut first = None;
    within(xml, &parent.namespace, |xml, element| {
        match element.name.as_str() {
            "state" => {
                once.check(xml, "state")?;
                one.state = Some(xml.text()?);
            }
            "justification" => one.justification = Some(xml.text()?),
            "detail" => one.detail = Some(xml.text()?),
            "firstIssued" | "lastUpdated" => {
                let text = xml.text()?;
                let at = time(&text).ok_or_else(|| xml.error("the time of an analysis is not a time"))?;
                *(if element.name == "firstIssued" { &mut first } else { &mut one.at }) = at;
            }
            _ => {}
        }
        Ok(())
    })?;
    one.at = one.at.or(first);
    Ok(one)
}

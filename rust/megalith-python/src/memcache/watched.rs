//! What a function reaches: the globals, helpers and cells that its key was made from. A call whose bytes are known hits
//! as long as they are the very same objects.

use pyo3::PyTraverseError;
use pyo3::exceptions::PyValueError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

enum Thing {
    Item(Py<PyDict>, Py<PyString>, Py<PyAny>),
    Absent(Py<PyDict>, Py<PyString>),
    Attribute(Py<PyAny>, Py<PyString>, Py<PyAny>),
    Get(Py<PyAny>, Py<PyString>, Py<PyAny>),
}

pub(crate) struct Watched {
    /// What it was made from.
    source: Py<PyTuple>,
    things: Vec<Thing>,
}

impl Watched {
    /// From tuples of kind, place, name and value; see `megalith.records.code.Code.watched`.
    pub(crate) fn new(source: Bound<'_, PyTuple>) -> PyResult<Self> {
        let thing = |row: Bound<'_, PyAny>| {
            let (kind, place, name, value): (String, Bound<'_, PyAny>, Py<PyString>, Py<PyAny>) = row.extract()?;
            Ok(match kind.as_str() {
                "item" => Thing::Item(place.cast_into()?.unbind(), name, value),
                "absent" => Thing::Absent(place.cast_into()?.unbind(), name),
                "attribute" => Thing::Attribute(place.unbind(), name, value),
                "get" => Thing::Get(place.unbind(), name, value),
                _ => return Err(PyValueError::new_err(format!("watched: there is no kind {kind:?}"))),
            })
        };
        let things = source.iter().map(thing).collect::<PyResult<_>>()?;
        Ok(Self { source: source.unbind(), things })
    }

    pub(crate) fn is_made_from(&self, source: &Bound<'_, PyTuple>) -> bool {
        self.source.is(source)
    }

    /// Whether all is as it was. An error means that it is not.
    pub(crate) fn is_unchanged(&self, py: Python<'_>) -> bool {
        self.things.iter().all(|thing| match thing {
            Thing::Item(place, name, value) => {
                matches!(place.bind(py).get_item(name), Ok(Some(found)) if found.is(value))
            }
            Thing::Absent(place, name) => matches!(place.bind(py).get_item(name), Ok(None)),
            Thing::Attribute(place, name, value) => place.bind(py).getattr(name).is_ok_and(|found| found.is(value)),
            Thing::Get(get, name, value) => get.bind(py).call1((name,)).is_ok_and(|found| found.is(value)),
        })
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.source)?;
        self.things.iter().try_for_each(|thing| match thing {
            Thing::Item(place, _, value) => visit.call(place).and_then(|()| visit.call(value)),
            Thing::Absent(place, _) => visit.call(place),
            Thing::Attribute(place, _, value) | Thing::Get(place, _, value) => {
                visit.call(place).and_then(|()| visit.call(value))
            }
        })
    }
}

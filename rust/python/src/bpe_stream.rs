//! Ids to text as they come.
//!
//! A model gives an id at a time, so here the call itself is the cost. `push` is therefore a plain C
//! function of one argument, and the text of an id is made once and handed out again after that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use internlm_bpe::{Tokenizer, Utf8Stream};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

use crate::bpe::{BpeTokenizer, bpe_error};
use crate::error::panicked;

/// The text of each id that was asked for and is whole characters.
pub type Texts = Arc<[PyOnceLock<Py<PyString>>]>;

#[pyclass(frozen, module = "internlm_core._core")]
pub struct BpeStream {
    inner: Arc<Tokenizer>,
    texts: Texts,
    state: Mutex<State>,
    /// Whether the next id's text depends on `state`.
    waits: AtomicBool,
}

struct State {
    stream: Utf8Stream,
    /// Whether a space at the start is still to be taken away.
    leads: bool,
}

impl BpeStream {
    /// The text after one more id, where nothing waits and the id's text is known.
    #[inline(always)]
    fn known(&self, py: Python<'_>, token: usize) -> Option<Py<PyString>> {
        let text = self.texts.get(token)?.get(py)?;
        (!self.waits.load(Ordering::Relaxed)).then(|| text.clone_ref(py))
    }

    fn next(&self, py: Python<'_>, token: u32) -> PyResult<Py<PyString>> {
        let mut piece = self.inner.piece(token).map_err(bpe_error)?;
        if let Some(slot) = self.texts.get(token as usize)
            && let Ok(text) = std::str::from_utf8(piece)
        {
            slot.get_or_init(py, || PyString::new(py, text).unbind());
            if let Some(text) = self.known(py, token as usize) {
                return Ok(text);
            }
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.leads && !piece.is_empty() {
            state.leads = false;
            piece = piece.strip_prefix(b" ").unwrap_or(piece);
        }
        let text = state.stream.push(piece);
        self.waits.store(state.leads || !state.stream.is_idle(), Ordering::Relaxed);
        Ok(PyString::new(py, &text).unbind())
    }
}

#[pymethods]
impl BpeStream {
    #[new]
    fn new(tokenizer: &BpeTokenizer) -> Self {
        let inner = Arc::clone(&tokenizer.inner);
        let none = || (0..inner.vocab_size()).map(|_| PyOnceLock::new()).collect();
        let (texts, leads) = (Arc::clone(tokenizer.texts.get_or_init(none)), inner.leads());
        let state = Mutex::new(State { stream: Utf8Stream::default(), leads });
        Self { inner, texts, state, waits: AtomicBool::new(leads) }
    }

    /// Takes an id, returns the text that is certain after it.
    #[getter]
    fn push(this: Bound<'_, Self>) -> PyResult<Bound<'_, PyAny>> {
        let py = this.py();
        let method = (&raw const PUSH.0).cast_mut();
        // SAFETY: the definition lives as long as the process and CPython only reads it; the
        // function gets `this` as its first argument, of which it keeps a reference.
        unsafe {
            let function = ffi::PyCFunction_NewEx(method, this.as_ptr(), std::ptr::null_mut());
            Bound::from_owned_ptr_or_err(py, function)
        }
    }

    fn flush(&self) -> String {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.waits.store(state.leads, Ordering::Relaxed);
        state.stream.flush()
    }
}

struct Definition(ffi::PyMethodDef);

// SAFETY: it is never written to.
unsafe impl Sync for Definition {}

static PUSH: Definition = Definition(ffi::PyMethodDef {
    ml_name: c"push".as_ptr(),
    ml_meth: ffi::PyMethodDefPointer { PyCFunction: push },
    ml_flags: ffi::METH_O,
    ml_doc: c"Takes an id, returns the text that is certain after it.".as_ptr(),
});

/// CPython calls it with the stream that [`BpeStream::push`] bound and any object.
unsafe extern "C" fn push(
    stream: *mut ffi::PyObject,
    token: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: CPython calls with the GIL held.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: only `BpeStream::push` makes functions of this definition, of streams.
    let stream = unsafe { Borrowed::from_ptr(py, stream).cast_unchecked::<BpeStream>() }.get();
    // SAFETY: the argument is an object, and the number is asked for only where it is an int.
    unsafe {
        if ffi::PyLong_CheckExact(token) != 0 {
            let number = ffi::PyLong_AsSsize_t(token);
            if let Some(text) = usize::try_from(number).ok().and_then(|at| stream.known(py, at)) {
                return text.into_ptr();
            }
            if number == -1 {
                ffi::PyErr_Clear();
            }
        }
    }
    // SAFETY: as above.
    let token = unsafe { Borrowed::from_ptr(py, token) };
    let next = || stream.next(py, token.extract::<u32>()?);
    let next = std::panic::catch_unwind(std::panic::AssertUnwindSafe(next));
    match next.map_err(panicked).and_then(|text| text) {
        Ok(text) => text.into_ptr(),
        Err(error) => {
            error.restore(py);
            std::ptr::null_mut()
        }
    }
}

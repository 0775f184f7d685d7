//! The native module `megalith._core`. Registrations only; users import `megalith`.

// PyO3 hands arguments over by value.
#![allow(clippy::needless_pass_by_value)]

mod arrays;
mod error;
mod files;
mod guard;
mod info;
mod kernels;
mod memcache;
mod memory;
mod shm;

use numpy::PyArrayDescrMethods;
use pyo3::prelude::*;
use pyo3::types::IntoPyDict;

#[pymodule(gil_used = false)]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    guard::refuse_subinterpreters()?;
    // Finds NumPy's interface now: an interrupt that comes while the first call does so would be a panic.
    numpy::dtype::<u8>(module.py()).itemsize();
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("DEBUG", cfg!(debug_assertions))?;
    module.add("SUM_PIECE", megalith_kernels::block_sums::PIECE)?;
    module.add_class::<kernels::Hits>()?;
    module.add_class::<kernels::Pairs>()?;
    module.add_class::<kernels::groups::Tally>()?;
    module.add_class::<kernels::groups::Means>()?;
    module.add_class::<files::File>()?;
    module.add_class::<files::Draft>()?;
    module.add_function(wrap_pyfunction!(files::books_remove, module)?)?;
    module.add_function(wrap_pyfunction!(files::books_added, module)?)?;
    module.add_function(wrap_pyfunction!(files::books_settle, module)?)?;
    module.add_function(wrap_pyfunction!(files::touch, module)?)?;
    module.add_function(wrap_pyfunction!(files::plain_header, module)?)?;
    module.add_class::<shm::Segment>()?;
    module.add_class::<shm::Turned>()?;
    module.add_class::<memcache::Memoized>()?;
    module.add_function(wrap_pyfunction!(shm::shared_turn, module)?)?;
    module.add_function(wrap_pyfunction!(shm::shared_holder, module)?)?;
    module.add_function(wrap_pyfunction!(shm::shared_remove, module)?)?;
    module.add_function(wrap_pyfunction!(shm::shared_list, module)?)?;
    module.add_function(wrap_pyfunction!(shm::user_id, module)?)?;
    module.add_function(wrap_pyfunction!(info::shared_directory, module)?)?;
    module.add_function(wrap_pyfunction!(info::capacity, module)?)?;
    module.add_function(wrap_pyfunction!(info::cpu_level, module)?)?;
    module.add_function(wrap_pyfunction!(arrays::refuse_overlap, module)?)?;
    module.add_function(wrap_pyfunction!(memory::empty, module)?)?;
    module.add_function(wrap_pyfunction!(guard::default_threads, module)?)?;
    module.add_function(wrap_pyfunction!(kernels::find, module)?)?;
    module.add_function(wrap_pyfunction!(kernels::apply_lut, module)?)?;
    module.add_function(wrap_pyfunction!(kernels::apply_lut_to_index, module)?)?;
    module.add_function(wrap_pyfunction!(kernels::correlate1d, module)?)?;
    module.add_function(wrap_pyfunction!(kernels::block_boundaries, module)?)?;
    module.add_function(wrap_pyfunction!(kernels::block_sums, module)?)?;
    module.add_function(wrap_pyfunction!(kernels::block_counts, module)?)?;
    module.add_function(wrap_pyfunction!(kernels::find_pairs, module)?)?;
    module.add_function(wrap_pyfunction!(kernels::groups::count_ids, module)?)?;
    module.add_function(wrap_pyfunction!(kernels::groups::index_of, module)?)?;
    module.add_function(wrap_pyfunction!(kernels::probe_read, module)?)?;
    module.add_function(wrap_pyfunction!(kernels::probe_write, module)?)?;
    module.add_function(wrap_pyfunction!(kernels::checksums, module)?)?;
    module.add_function(wrap_pyfunction!(kernels::xxh3, module)?)?;
    module.add_function(wrap_pyfunction!(kernels::digest, module)?)?;
    module.add_function(wrap_pyfunction!(kernels::digest_bytes, module)?)?;
    let at_fork = module.py().import("os")?.getattr("register_at_fork")?;
    let (locks, pages) =
        (wrap_pyfunction!(shm::after_fork_in_child, module)?, wrap_pyfunction!(memory::after_fork, module)?);
    at_fork.call((), Some(&[("after_in_child", &locks)].into_py_dict(module.py())?))?;
    at_fork.call((), Some(&[("after_in_child", &pages), ("after_in_parent", &pages)].into_py_dict(module.py())?))?;
    Ok(())
}

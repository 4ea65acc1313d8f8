//! Writes the seeds of every target to where cargo-fuzz looks for them: `corpus/TARGET/`.

fn main() -> std::io::Result<()> {
    for (name, _, seeds) in peerage_fuzz::targets() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        std::fs::create_dir_all(&folder)?;
        for (i, seed) in seeds.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{i}")), seed)?;
        }
    }
    Ok(())
}

class EngineMvs < Formula
  desc "Learned multi-view stereo: calibrated photos to depth maps and a point cloud"
  homepage "https://github.com/OWNER/engine"
  url "https://github.com/OWNER/engine/archive/refs/tags/v0.1.0.tar.gz"
  sha256 "SHA256"
  license any_of: ["MIT", "Apache-2.0"]

  depends_on "rust" => :build

  def install
    system "cargo", "install", *std_cargo_args
    generate_completions_from_executable(bin/"engine", "completions")
    system bin/"engine", "man", man1
    pkgshare.install "examples/scene"
  end

  test do
    system bin/"engine", "infer", pkgshare/"scene", "-o", testpath/"out", "--quality", "fast", "--quiet"
    assert_path_exists testpath/"out/fused.ply"
  end
end

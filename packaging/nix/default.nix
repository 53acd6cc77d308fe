# nix-build packaging/nix
{ pkgs ? import <nixpkgs> { } }:

pkgs.rustPlatform.buildRustPackage {
  pname = "engine-mvs";
  version = "0.1.0";
  src = pkgs.lib.cleanSource ../..;
  cargoLock.lockFile = ../../Cargo.lock;
  cargoBuildFlags = [ "-p" "engine-mvs" ];
  # The tests take some minutes and belong to CI; the program itself is tried below.
  doCheck = false;
  nativeBuildInputs = [ pkgs.installShellFiles ];
  postInstall = ''
    installShellCompletion --cmd engine \
      --bash <($out/bin/engine completions bash) \
      --zsh <($out/bin/engine completions zsh) \
      --fish <($out/bin/engine completions fish)
    $out/bin/engine man man
    installManPage man/*.1
  '';
  doInstallCheck = true;
  installCheckPhase = ''
    $out/bin/engine infer examples/scene -o out --quality fast --quiet
    test -e out/fused.ply
  '';
  meta = {
    description = "Learned multi-view stereo: calibrated photos in, depth maps and one coloured point cloud out";
    license = with pkgs.lib.licenses; [ mit asl20 ];
    mainProgram = "engine";
  };
}

// swift-tools-version: 6.0
import PackageDescription

/// The example of README.md as a package of its own: it sees what any user of the libraries sees.
let package = Package(
    name: "effective-ranks",
    dependencies: [.package(name: "cola", path: "../..")],
    targets: [
        .executableTarget(
            name: "effective-ranks",
            dependencies: ["Checkpoints", "Tokenizers", "Transformer", "Spectra"].map {
                .product(name: $0, package: "cola")
            })
    ]
)

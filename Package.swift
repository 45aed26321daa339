// swift-tools-version: 6.0
// SPDX-License-Identifier: Apache-2.0
import PackageDescription

/// Layout: see "Structure" in README.md. Imports point one way, from the tools down to the C shims.
let package = Package(
    name: "cola",
    products: [
        .library(name: "Tensors", targets: ["Tensors"]),
        .library(name: "LinearAlgebra", targets: ["LinearAlgebra"]),
        .library(name: "Files", targets: ["Files"]),
        .library(name: "JSON", targets: ["JSON"]),
        .library(name: "Checkpoints", targets: ["Checkpoints"]),
        .library(name: "Tokenizers", targets: ["Tokenizers"]),
        .library(name: "TokenData", targets: ["TokenData"]),
        .library(name: "Transformer", targets: ["Transformer"]),
        .library(name: "Spectra", targets: ["Spectra"]),
        .library(name: "LowRank", targets: ["LowRank"]),
        .library(name: "Training", targets: ["Training"]),
        .library(name: "CostModel", targets: ["CostModel"]),
        .library(name: "Report", targets: ["Report"]),
        .library(name: "Workflows", targets: ["Workflows"]),
        .executable(name: "cola-analyze", targets: ["cola-analyze"]),
        .executable(name: "cola-convert", targets: ["cola-convert"]),
        .executable(name: "cola-train", targets: ["cola-train"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0")
    ],
    targets: [
        // System libraries, each behind a thin header.
        .systemLibrary(name: "CHDF5", pkgConfig: "hdf5", providers: [.apt(["libhdf5-dev"])]),
        .systemLibrary(
            name: "CLAPACK", pkgConfig: "lapacke", providers: [.apt(["liblapacke-dev", "libopenblas-dev"])]),
        .systemLibrary(name: "CMalloc"),
        .systemLibrary(name: "CCrypto", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),

        // C and C++ shims, and the element-wise loops.
        .target(name: "COneDNN", linkerSettings: [.linkedLibrary("dnnl")]),
        .target(name: "CSentencePiece", linkerSettings: [.linkedLibrary("sentencepiece")]),
        .target(name: "CSignals"),
        .target(name: "CKernels", linkerSettings: [.linkedLibrary("gomp"), .linkedLibrary("m")]),

        // Libraries.
        .target(name: "Tensors", dependencies: ["CKernels"]),
        .target(name: "LinearAlgebra", dependencies: ["Tensors", "CKernels", "CLAPACK", "COneDNN"]),
        .target(name: "Files", dependencies: ["CSignals"]),
        .target(name: "JSON"),
        .target(name: "Checkpoints", dependencies: ["Files", "JSON", "Tensors", "CKernels", "CHDF5", "CSignals"]),
        .target(name: "Tokenizers", dependencies: ["JSON", "Checkpoints", "CSentencePiece"]),
        .target(name: "TokenData", dependencies: ["Files", "Tensors", "Checkpoints"]),
        .target(name: "Transformer", dependencies: ["Files", "JSON", "LinearAlgebra", "Checkpoints"]),
        .target(name: "Spectra", dependencies: ["Files", "LinearAlgebra", "Transformer"]),
        .target(
            name: "LowRank",
            dependencies: ["Files", "JSON", "Spectra", "LinearAlgebra", "Transformer", "Checkpoints", "CKernels"]),
        .target(
            name: "Training",
            dependencies: [
                "Files", "JSON", "Spectra", "LinearAlgebra", "Transformer", "TokenData", "Checkpoints", "CKernels",
            ]),
        .target(name: "CostModel", dependencies: ["Files", "Transformer"]),
        .target(
            name: "Report", dependencies: ["Files", "JSON", "Spectra", "CCrypto"],
            // Into the code, so that an executable that is copied elsewhere still has them.
            resources: [
                "page.html", "report.css", "dom.js", "charts.js", "saving.js", "spectra.js", "map.js", "decay.js",
                "lowrank.js", "training.js", "report.js",
            ].map { .embedInCode("Page/\($0)") }),
        .target(
            name: "Workflows",
            dependencies: [
                "JSON", "Checkpoints", "TokenData", "Transformer", "Spectra", "LowRank", "Training", "LinearAlgebra",
            ]),
        .target(
            name: "CommandSupport",
            dependencies: [
                "Files", "JSON", "Checkpoints", "Tokenizers", "TokenData", "Transformer", "Spectra", "LowRank",
                "Training", "CostModel", "Report", "Workflows", "LinearAlgebra", "CCrypto", "CMalloc", "CSignals",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ]),

        // Tools.
        .executableTarget(
            name: "cola-analyze",
            dependencies: [
                "Files", "JSON", "CommandSupport", "Workflows", "CostModel", "Report", "Spectra", "LowRank", "Training",
                "Transformer", "TokenData", "Checkpoints",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ]),
        .executableTarget(
            name: "cola-convert",
            dependencies: [
                "Files", "JSON", "CommandSupport", "Workflows", "LowRank", "Training", "Transformer", "Tokenizers",
                "TokenData",
                "Checkpoints", "CKernels", .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ]),
        .executableTarget(
            name: "cola-train",
            dependencies: [
                "Files", "JSON", "CommandSupport", "Workflows", "Spectra", "LowRank", "Training", "Transformer",
                "Tokenizers",
                "TokenData", "Checkpoints", "LinearAlgebra",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ]),

        // Tests.
        .target(name: "TestSupport", dependencies: ["CKernels"], path: "Tests/TestSupport"),
        .testTarget(name: "TensorsTests", dependencies: ["Tensors", "CKernels", "TestSupport"]),
        .testTarget(name: "LinearAlgebraTests", dependencies: ["LinearAlgebra", "TestSupport"]),
        .testTarget(name: "JSONTests", dependencies: ["JSON", "Tensors", "TestSupport"]),
        .testTarget(
            name: "CheckpointsTests", dependencies: ["Files", "JSON", "Checkpoints", "Transformer", "TestSupport"],
            resources: [.copy("Fixtures")]),
        .testTarget(
            name: "TokenizersTests", dependencies: ["JSON", "Tokenizers", "Tensors", "TestSupport"],
            resources: [.copy("Fixtures")]),
        .testTarget(
            name: "TokenDataTests", dependencies: ["Files", "Tensors", "TokenData", "TestSupport"],
            resources: [.copy("Fixtures")]),
        .testTarget(
            name: "TransformerTests", dependencies: ["Files", "JSON", "Checkpoints", "Transformer", "TestSupport"],
            resources: [.copy("Fixtures")]),
        .testTarget(name: "SpectraTests", dependencies: ["Files", "Spectra", "Checkpoints", "TestSupport"]),
        .testTarget(
            name: "LowRankTests",
            dependencies: ["Files", "JSON", "LowRank", "Spectra", "Checkpoints", "CKernels", "TestSupport"]),
        .testTarget(
            name: "TrainingTests", dependencies: ["Files", "JSON", "Training", "TokenData", "TestSupport"],
            resources: [.copy("Fixtures")]),
        .testTarget(
            name: "CostModelTests", dependencies: ["JSON", "CostModel", "Training", "Transformer", "TestSupport"]),
        .testTarget(name: "ReportTests", dependencies: ["Files", "JSON", "Report", "Spectra", "TestSupport"]),
        .testTarget(
            name: "WorkflowsTests",
            dependencies: ["JSON", "Workflows", "LowRank", "Checkpoints", "Tensors", "Transformer", "TestSupport"]),
        .testTarget(
            name: "ToolTests",
            dependencies: [
                "JSON", "CommandSupport", "Workflows", "LinearAlgebra", "Checkpoints", "Tokenizers", "Transformer",
                "TestSupport", "cola-analyze", "cola-convert", "cola-train",
            ],
            resources: [.copy("Fixtures")]),
        .testTarget(name: "PackageUseTests", dependencies: ["Checkpoints", "Tensors", "Transformer", "TestSupport"]),
    ],
    cxxLanguageStandard: .cxx17
)

// swift-tools-version: 6.2
import PackageDescription

let swift: [SwiftSetting] = [
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .treatAllWarnings(as: .error),
]
let c: [CSetting] = [.treatAllWarnings(as: .error)]

/// A library of this package, by default in the folder of its name.
func library(
  _ name: String, _ dependencies: [Target.Dependency] = [], in path: String? = nil
) -> Target {
  .target(name: name, dependencies: dependencies, path: path, swiftSettings: swift)
}

/// The tests of a library, beside what they share.
func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .testTarget(name: name, dependencies: dependencies, swiftSettings: swift)
}

let package = Package(
  name: "clipc",
  products: [
    .executable(name: "clipc", targets: ["clipc"]),
    .library(name: "ClipRuntime", type: .static, targets: ["ClipRuntime", "ModelFormat"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
  ],
  targets: [
    // C and system libraries.
    .target(name: "CKernels", cSettings: c),
    .target(name: "CClip", cSettings: c),
    .target(name: "COpenBLAS", cSettings: c, linkerSettings: [.linkedLibrary("dl")]),
    .target(name: "CSHA256", cSettings: c),
    .target(name: "CJPEG", cSettings: c, linkerSettings: [.linkedLibrary("jpeg")]),
    .target(name: "CPNG", cSettings: c, linkerSettings: [.linkedLibrary("png")]),
    .systemLibrary(name: "CHDF5", pkgConfig: "hdf5-serial", providers: [.apt(["libhdf5-dev"])]),
    .systemLibrary(name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),

    // Types without dependencies.
    .target(name: "TensorCore", swiftSettings: swift + [.enableExperimentalFeature("Lifetimes")]),
    library("ModelFormat"),
    library("Preprocessing"),
    library("Charts"),

    // The graph, the batches, the interpreter.
    library("GraphIR", ["TensorCore"]),
    library("Datasets", ["Preprocessing", "TensorCore", "CJPEG", "CPNG"]),
    library("ClipRuntime", ["ModelFormat", "CKernels", "CClip"]),

    // What operators mean; how a graph is run, loaded and judged.
    library("Operators", ["GraphIR", "TensorCore", "CKernels", "COpenBLAS"]),
    library("Execution", ["Operators", "GraphIR", "TensorCore"]),
    library(
      "Training",
      [
        "Charts", "Execution", "Checkpoints", "Datasets", "Operators", "GraphIR", "Preprocessing",
        "TensorCore", "CKernels",
      ]),
    library("Evaluation", ["Operators", "GraphIR", "TensorCore"]),
    library(
      "Checkpoints", ["GraphIR", "Operators", "Preprocessing", "TensorCore", "CHDF5", "CSHA256"]),

    // The product.
    library("Passes", ["Training", "Execution", "Operators", "GraphIR", "TensorCore"]),
    library(
      "Export",
      [
        "Evaluation", "GraphIR", "Operators", "Preprocessing", "TensorCore", "ModelFormat", "CZstd",
      ]),
    .executableTarget(
      name: "clipc",
      dependencies: [
        "Charts", "Checkpoints", "ClipRuntime", "Datasets", "Evaluation", "Execution", "Export",
        "GraphIR",
        "ModelFormat", "Operators", "Passes", "Preprocessing", "TensorCore", "Training", "CClip",
        "CKernels",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Yams", package: "Yams"),
      ], swiftSettings: swift),

    // What users of the runtime begin with; its sister in C is `Sources/clipc-c-example`.
    .executableTarget(
      name: "clipc-swift-example", dependencies: ["ClipRuntime", "ModelFormat"],
      swiftSettings: swift),

    // Tests.
    library("TestSupport", ["Operators", "GraphIR", "TensorCore"], in: "Tests/TestSupport"),
    library("RuntimeFixtures", ["ModelFormat"], in: "Tests/RuntimeFixtures"),
    .executableTarget(
      name: "clipc-bench",
      dependencies: [
        "Training", "Checkpoints", "Execution", "Operators", "GraphIR", "TensorCore",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ], swiftSettings: swift),
    .target(name: "CAllocationCounter", path: "Tests/CAllocationCounter", cSettings: c),
    tests("CKernelsTests", ["CKernels"]),
    tests("TensorCoreTests", ["TensorCore", "TestSupport"]),
    tests("ChartsTests", ["Charts"]),
    tests("PreprocessingTests", ["Preprocessing", "TestSupport"]),
    tests("GraphIRTests", ["Operators", "TestSupport"]),
    tests("DatasetsTests", ["Datasets", "Preprocessing", "TestSupport"]),
    tests("OperatorsTests", ["Operators", "TestSupport"]),
    tests("ExecutionTests", ["Execution", "TestSupport"]),
    tests("EvaluationTests", ["Evaluation", "TestSupport"]),
    tests(
      "CheckpointsTests",
      ["Checkpoints", "Execution", "Preprocessing", "CHDF5", "CSHA256", "TestSupport"]),
    .testTarget(
      name: "TrainingTests",
      dependencies: [
        "Training", "Execution", "Checkpoints", "Datasets", "Preprocessing", "TestSupport",
      ],
      exclude: ["Resources"], swiftSettings: swift),
    tests("PassesTests", ["Passes", "Training", "Execution", "Operators", "TestSupport"]),
    tests(
      "ExportTests",
      ["Export", "Execution", "Passes", "ClipRuntime", "ModelFormat", "TestSupport"]),
    tests("ModelFormatTests", ["ModelFormat", "RuntimeFixtures"]),
    tests(
      "ClipRuntimeTests",
      ["ClipRuntime", "ModelFormat", "CKernels", "CClip", "RuntimeFixtures", "CAllocationCounter"]),
    tests("CommandLineTests", ["clipc", "Checkpoints", "TensorCore", "TestSupport"]),
  ]
)

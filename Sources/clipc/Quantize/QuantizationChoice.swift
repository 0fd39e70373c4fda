import ArgumentParser
import GraphIR
import Passes
import TensorCore

/// What numbers become, and how.
struct QuantizationChoice: ParsableArguments {
  @Option(help: "int8 to int2, float16, bfloat16 or float32; a list with --compare.")
  var weights = "int8"
  @Option(
    help: """
      The weights of the first layer and of the projections; int8 where --weights has fewer bits, \
      by default.
      """)
  var outerWeights: NumberFormat?
  @Option(
    help: "The token embedding; as --weights, of at least 4 bits, by default.")
  var tokenEmbedding: NumberFormat?
  @Option(
    help: ArgumentHelp(
      "Weights of a row that share a scale, a multiple of 4, such as 64; whole rows by default.",
      valueName: "n"))
  var groupSize: Int?
  @Option(
    help: """
      symmetric, or full: with one more code on one side. What has the lower error by default.
      """)
  var grid: CodeGrid?
  @Option(
    help: "int8 to int2, float32, or bfloat16 for bfloat16 weights; a list with --compare.")
  var activations = "float32"
  @Option(
    help: "tensor, or token: a scale for each token, found as the model runs, which needs no data.")
  var activationScales = ActivationScales.tensor
  @Option(
    help: """
      float32, or int8: what the products of attention are of; int8 with --activations int8 and a \
      scale a tensor, by default.
      """)
  var attention: AttentionFormat?
  @Option(help: "How ranges are chosen: octav, max or percentile.")
  var clipping: ClippingRule = .octav
  @Option(help: "The share of magnitudes that --clipping percentile keeps, in percent.")
  var percentile = 99.99
  @Option(
    help: """
      How scales move between normalization and layer, where there are --data: auto, none, or a \
      strength of 0 to 1.
      """)
  var smooth = Smoothing.auto
  @Option(
    help: """
      How codes are chosen: nearest; or, to keep what layers answer on --data, gptq or adaquant.
      """)
  var rounding: LayerRounding.Method = .nearest
  @Flag(help: "Let biases make up for the mean error of each channel on --data.")
  var correctBiases = false
  @Flag(help: "Tune biases and normalization on --data by the similarities of images and texts.")
  var tuneBiases = false
  @Option(help: "image, text or both.") var tower: TowerSelection = .both
  @Option(help: "Parameters or nodes to leave alone, * for any characters; may recur.")
  var exclude: [String] = []
  @Option(help: "What is left alone becomes: float32, float16 or bfloat16.")
  var excludedAs = NumberFormat.float32

  /// Whether a tensor or each token has a scale.
  enum ActivationScales: String, CaseIterable, ExpressibleByArgument {
    case tensor
    case token
  }

  /// What attention computes with.
  enum AttentionFormat: String, CaseIterable, ExpressibleByArgument {
    case float32
    case int8
  }

  /// How strength is chosen.
  enum Smoothing: ExpressibleByArgument {
    case auto
    case none
    case strength(Double)

    init?(argument: String) {
      switch argument {
      case "auto": self = .auto
      case "none": self = .none
      default:
        guard let strength = Double(argument), (0...1).contains(strength) else { return nil }
        self = .strength(strength)
      }
    }

    var defaultValueDescription: String {
      switch self {
      case .auto: "auto"
      case .none: "none"
      case .strength(let strength): "\(strength)"
      }
    }
  }

  func validate() throws {
    guard percentile > 0, percentile <= 100 else {
      throw ValidationError("--percentile must be above 0 and at most 100, found \(percentile)")
    }
    if let groupSize, groupSize < 4 || groupSize % 4 != 0 {
      throw ValidationError("--group-size must be a positive multiple of 4, found \(groupSize)")
    }
    let all = try formats()
    for one in all {
      guard one.activations != .float16 else {
        throw ValidationError(
          "--activations must be int2 to int8, bfloat16 or float32, found float16")
      }
      guard one.activations != .bfloat16 || one.weights == .bfloat16 else {
        throw ValidationError(
          "--activations bfloat16 needs --weights bfloat16, found \(one.weights.rawValue)")
      }
    }
    let areCodes = all.allSatisfy { $0.activations.bitCount != nil }
    guard excludedAs.bitCount == nil else {
      throw ValidationError(
        "--excluded-as must be float32, float16 or bfloat16, found \(excludedAs.rawValue)")
    }
    guard activationScales == .tensor || areCodes else {
      throw ValidationError("--activation-scales token needs --activations of integers")
    }
    guard attention != .int8 || (areCodes && activationScales == .tensor) else {
      throw ValidationError("--attention int8 needs --activations of integers, a scale a tensor")
    }
  }

  /// Every pair of the formats that are listed.
  private func formats() throws -> [(weights: NumberFormat, activations: NumberFormat)] {
    func list(_ name: String, _ text: String) throws -> [NumberFormat] {
      try text.split(separator: ",", omittingEmptySubsequences: false).map { word in
        guard let format = NumberFormat(rawValue: String(word)) else {
          let names = NumberFormat.allCases.map(\.rawValue).joined(separator: ", ")
          throw ValidationError("--\(name) must be of \(names), found \(word)")
        }
        return format
      }
    }
    let activations = try list("activations", self.activations)
    return try list("weights", self.weights).flatMap { weights in
      activations.map { (weights, $0) }
    }
  }

  /// The pass's options for each pair of the formats that are listed.
  func options() throws -> [Quantize.Options] {
    try formats().map { options($0.weights, $0.activations) }
  }

  private func options(
    _ weights: NumberFormat, _ activations: NumberFormat
  ) -> Quantize.Options {
    var options = Quantize.Options()
    options.weights = weights
    options.outerWeights = outerWeights
    options.tables = tokenEmbedding
    options.groupSize = groupSize
    options.grid = grid
    options.activations = activations
    options.isPerToken = activationScales == .token
    let isFit = activations == .int8 && activationScales == .tensor
    options.quantizesAttention = (attention ?? (isFit ? .int8 : .float32)) == .int8
    options.clipping = clipping
    options.percentile = percentile
    switch smooth {
    case .auto: options.migration = .searched
    case .none: options.migration = nil
    case .strength(let strength): options.migration = .fixed(strength)
    }
    if rounding != .nearest || correctBiases {
      var own = LayerRounding.Options()
      own.method = rounding
      options.rounding = own
    }
    if tuneBiases { options.biasTuning = BiasTuning.Options() }
    options.tower = tower
    options.exclude = exclude
    options.excluded = excludedAs
    return options
  }
}

extension LayerRounding.Method: ExpressibleByArgument {}
extension NumberFormat: ExpressibleByArgument {}
extension CodeGrid: ExpressibleByArgument {}
extension ClippingRule: ExpressibleByArgument {}

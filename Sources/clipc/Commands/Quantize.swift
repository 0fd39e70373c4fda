import ArgumentParser
import GraphIR
import Passes

/// `clipc quantize`: turns weights, and on request activations, into 8-bit codes.
struct QuantizeCommand: Command {
  static let configuration = CommandConfiguration(
    commandName: "quantize",
    abstract: "Turn weights, and on request activations, into 8-bit codes.",
    discussion: """
      Weights get a scale for each output channel, the token embedding for each row. 8-bit
      activations need --data to find their ranges. The result simulates in float what `export`
      turns into integer kernels.
      """)

  @Argument(help: "A checkpoint folder or clipc model.") var model: String
  @Option(name: .shortAndLong, help: "The quantized clipc model (.h5).") var output: String
  @Option(help: "int8 or float32.") var weights: Quantize.WeightFormat = .int8
  @Option(help: "int8 or float32.") var activations: Quantize.ActivationFormat = .float32
  @Option(help: "How ranges are chosen: octav, max or percentile.")
  var clipping: ClippingRule = .octav
  @Option(help: "The share of magnitudes that --clipping percentile keeps, in percent.")
  var percentile = 99.99
  @Option(help: "image, text or both.") var tower: TowerSelection = .both
  @Option(help: "Parameters or nodes to leave alone, * for any characters; may recur.")
  var exclude: [String] = []
  @OptionGroup var calibration: CalibrationOptions
  @OptionGroup var common: CommonOptions

  func validate() throws {
    guard percentile > 0, percentile <= 100 else {
      throw ValidationError("--percentile must be above 0 and at most 100, found \(percentile)")
    }
  }

  func execute() throws {
    var options = Quantize.Options()
    options.weights = weights
    options.activations = activations
    options.clipping = clipping
    options.percentile = percentile
    options.tower = tower
    options.exclude = exclude
    guard activations == .float32 || calibration.data != nil else {
      throw Failure(.usage, "--activations int8 needs --data to calibrate on")
    }
    let opened = try OpenedModel(path: model)
    let source = try opened.graphModel(for: "quantize")
    let result = try PassRunner(common).run(
      [Quantize(options: options)], on: source, opened,
      calibration: try batches(opened, source.graph))
    try result.write(to: output)
    try result.show([], asJSON: common.json, output: output)
  }

  private func batches(_ opened: OpenedModel, _ graph: Graph) throws -> CalibrationBatches? {
    guard activations != .float32 else { return nil }
    return try CalibrationBatches(calibration, opened, graph, common)
  }
}

extension Quantize.WeightFormat: ExpressibleByArgument {}
extension Quantize.ActivationFormat: ExpressibleByArgument {}
extension ClippingRule: ExpressibleByArgument {}

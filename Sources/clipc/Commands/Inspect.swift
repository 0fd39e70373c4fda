import ArgumentParser
import CKernels
import ClipRuntime
import Evaluation
import Foundation
import GraphIR
import ModelFormat
import Operators
import TensorCore

/// `clipc inspect`: shows what a model is made of.
struct Inspect: Command {
  static let configuration = CommandConfiguration(
    abstract: "Show what a model is made of, and where each fact comes from.")

  /// The forms in which a graph is printed.
  enum GraphForm: String, CaseIterable, ExpressibleByArgument {
    case text
    case dot
  }

  @Argument(help: "Any model.") var model: String
  @Flag(help: "List every parameter, or every instruction of a runtime file.") var layers = false
  @Option(help: "Print the graph: text or dot.") var graph: GraphForm?
  @OptionGroup var use: ExpertUseOptions
  @OptionGroup var common: CommonOptions

  func execute() throws {
    let opened = try OpenedModel(path: model)
    if let graph {
      let source = try opened.graphModel(for: "inspect --graph").graph
      let text = graph == .text ? source.text() : source.dot()
      if common.json {
        return Terminal.print(JSON.object([("graph", .text(text))]).text)
      }
      return Terminal.print(text)
    }
    let summary = try opened.summary()
    let rows = layers ? try layerRows(opened) : nil
    let counted = try use.counted(opened, common)
    Terminal.print(
      common.json
        ? try json(opened, summary, rows, counted).text
        : try text(opened, summary, rows, counted))
  }

  // MARK: JSON

  private func json(
    _ opened: OpenedModel, _ summary: ModelSummary, _ rows: [[String]]?, _ use: ExpertUse?
  ) throws -> JSON {
    let parameters = summary.parameters
    var members: [(String, JSON)] = [
      ("kind", .text(opened.kind)), ("architecture", architecture(summary)),
      (
        "parameters",
        .object([
          ("total", .integer(parameters.total)), ("nonzero", .integer(parameters.nonzero)),
          ("image_tower", .integer(parameters.imageTower)),
          ("text_tower", .integer(parameters.textTower)),
          ("token_embedding", .integer(parameters.tokenEmbedding)),
          ("active", .integer(parameters.active ?? parameters.total)),
        ])
      ),
      (
        "macs",
        .object([
          ("image", .integer(summary.macs.image)), ("text", .integer(summary.macs.text)),
        ])
      ),
      ("file_bytes", .integer(opened.fileByteCount)),
      (
        "quantization",
        .object([
          ("weights", .text(summary.quantization.weights)),
          ("activations", .text(summary.quantization.activations)),
          ("token_embedding", .text(summary.quantization.tokenEmbedding)),
          ("quantized_parameters", .integer(summary.quantization.quantizedParameters)),
        ])
      ),
      ("provenance", .array(summary.provenance.map(provenance))),
    ]
    if let memory = opened.memoryPlan { members.append(("arena_bytes", .integer(memory))) }
    if let names = try opened.fileLabels()?.names {
      members.append(
        (
          "labels",
          .object([
            ("count", .integer(names.count)),
            ("first", .array(names.prefix(Self.shownLabels).map { .text($0) })),
          ])
        ))
    }
    if let experts = summary.experts {
      members.append(
        (
          "experts",
          .array(
            experts.map { layer in
              .object(
                [
                  ("layer", .text(layer.layer)), ("experts", .integer(layer.experts)),
                  ("per_token", layer.perToken.map { .integer($0) } ?? .null),
                ] + (use?.members(of: layer.layer) ?? []))
            })
        ))
    }
    if let rows {
      let names = rows[0]
      members.append(
        (
          "layers",
          .array(
            rows.dropFirst().map { row in
              .object(zip(names, row).map { ($0.0, JSON.text($0.1)) })
            })
        ))
    }
    return .object(members)
  }

  /// The facts by name; `sources` tells where each comes from.
  private func architecture(_ summary: ModelSummary) -> JSON {
    .object(
      summary.facts.map { ($0.name, JSON.text($0.value)) } + [
        ("sources", .object(summary.facts.map { ($0.name, JSON.text($0.source)) }))
      ])
  }

  private func provenance(_ step: ProvenanceStep) -> JSON {
    .object([
      ("pass", .text(step.pass)),
      (
        "options",
        .object(step.options.sorted { $0.key < $1.key }.map { ($0.key, JSON.text($0.value)) })
      ), ("seed", .integer(Int(clamping: step.seed))), ("input_sha256", .text(step.inputSHA256)),
    ])
  }

  // MARK: Text

  private func text(
    _ opened: OpenedModel, _ summary: ModelSummary, _ rows: [[String]]?, _ use: ExpertUse?
  ) throws -> String {
    let parameters = summary.parameters
    let labels = try labelRows(opened)
    func millions(_ count: Int) -> String { String(format: "%.3f M", Double(count) / 1e6) }
    var lines = [
      table(
        [
          ["kind", opened.kind], ["file", "\(opened.fileByteCount) bytes"],
          [
            "parameters",
            "\(millions(parameters.total)), \(millions(parameters.nonzero)) nonzero: "
              + "image tower \(millions(parameters.imageTower)), "
              + "text tower \(millions(parameters.textTower)), "
              + "token embedding \(millions(parameters.tokenEmbedding))",
          ],
        ] + expertRows(summary) + labels + [
          [
            "operations",
            String(
              format: "%.4f GMAC an image, %.4f GMAC a text of full length",
              Double(summary.macs.image) / 1e9, Double(summary.macs.text) / 1e9),
          ],
          [
            "numbers",
            "weights \(summary.quantization.weights), activations "
              + "\(summary.quantization.activations), token embedding "
              + summary.quantization.tokenEmbedding,
          ],
          ["this machine", "runtime kernels \(runtimeKernels), OpenBLAS \(matrixKernels)"],
        ]), "",
      table(
        [["fact", "value", "from"]]
          + summary.facts.map { [printable($0.name), printable($0.value), printable($0.source)] }),
    ]
    if let use { lines += ["", use.text] }
    if let memory = opened.memoryPlan {
      lines += ["", "memory for one image or one text: \(memory) bytes"]
    }
    if !summary.provenance.isEmpty { lines += ["", "provenance"] }
    for step in summary.provenance {
      let options = step.options.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
      lines.append(
        printable(
          "  \(step.pass)  \(options.joined(separator: " "))  seed \(step.seed)  "
            + "input \(step.inputSHA256.prefix(12))"))
    }
    if let rows { lines += ["", table(rows)] }
    return lines.joined(separator: "\n")
  }

  /// How many names of labels are shown.
  private static let shownLabels = 8

  /// The classes that the file knows, where it knows some.
  private func labelRows(_ opened: OpenedModel) throws -> [[String]] {
    guard let names = try opened.fileLabels()?.names else { return [] }
    let first = names.prefix(Self.shownLabels).map(printable).joined(separator: ", ")
    return [["labels", "\(names.count): \(first)\(names.count > Self.shownLabels ? ", …" : "")"]]
  }

  /// What a token meets of the experts, where there are some.
  private func expertRows(_ summary: ModelSummary) -> [[String]] {
    guard let experts = summary.experts, let first = experts.first else { return [] }
    let isUniform = experts.allSatisfy {
      $0.experts == first.experts && $0.perToken == first.perToken
    }
    let kind = isUniform ? "\(first.experts) each" : "\(experts.map(\.experts).max() ?? 0) at most"
    let active = summary.parameters.active ?? summary.parameters.total
    return [
      [
        "experts",
        "\(kind) in \(experts.count) layers"
          + (isUniform ? first.perToken.map { ", \($0) for a token" } ?? "" : "")
          + String(format: "; %.3f M parameters are active", Double(active) / 1e6),
      ]
    ]
  }

  /// The runtime's kernel set that this processor gets.
  private var runtimeKernels: String {
    String(cString: clip_kernel_sets_name(clip_kernel_sets_best()))
  }

  /// The kernel set that the matrix library uses here.
  private var matrixKernels: String {
    do { try Matrix.open() } catch { return "absent" }
    return Matrix.kernelSet
  }

  // MARK: Layers

  private func layerRows(_ opened: OpenedModel) throws -> [[String]] {
    switch opened.content {
    case .graph(let model):
      let graph = model.graph
      return [["parameter", "shape", "stored", "nonzero"]]
        + graph.parameterValues.compactMap { value in
          guard let parameter = graph.parameter(value) else { return nil }
          let stored =
            parameter.quantization?.summary ?? parameter.tensor.dtype.rawValue
          let count = parameter.tensor.count
          let kept = parameter.mask?.elements(of: UInt8.self).count { $0 != 0 } ?? count
          return [
            graph.name(of: value), "\(parameter.tensor.shape)",
            parameter.mask == nil ? stored : "\(stored), masked",
            String(format: "%.1f%%", 100 * Double(kept) / Double(max(count, 1))),
          ]
        }
    case .runtime(let content):
      let reader = try ModelReader(content.bytes)
      var rows = [["tower", "instruction", "node", "output"]]
      for tower in ModelFormat.Tower.allCases {
        guard let program = reader.program(tower) else { continue }
        for (index, instruction) in program.instructions.enumerated() {
          let buffer = program.buffers[instruction.output]
          let name = reader.name(ofInstruction: index, tower) ?? ""
          rows.append([
            "\(tower)", "\(instruction.opCode)", printable(name),
            "\(buffer.quantization == nil ? "f32" : "u8") x \(buffer.columns)",
          ])
        }
      }
      return rows
    }
  }
}

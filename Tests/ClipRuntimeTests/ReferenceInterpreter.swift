import Foundation
import ModelFormat
import RuntimeFixtures

/// Runs a program on one item in double precision, as plainly as the format describes it.
///
/// Texts run at their full length, so that leaving out what follows the pooled position is tested.
struct ReferenceInterpreter {
  let parts: TinyParts
  let program: Program
  var pixels: [Float] = []
  var ids: [Int32] = []
  /// Rows of each buffer that was written; codes for uint8.
  var values: [Int: [[Double]]] = [:]

  init(_ parts: TinyParts, _ program: Program) {
    self.parts = parts
    self.program = program
  }

  mutating func run() -> [Double] {
    for instruction in program.instructions { run(instruction) }
    guard let last = program.instructions.last else { return [] }
    return values[last.output]?.first ?? []
  }

  // MARK: Values

  func tensor(_ index: Int) -> [[Double]] {
    let tensor = parts.tensors[index]
    return (0..<tensor.rows).map { row in
      (0..<tensor.columns).map { element(tensor, row, $0) }
    }
  }

  func element(_ tensor: StoredTensor, _ row: Int, _ column: Int) -> Double {
    if let place = tensor.sparseElement(row, column) {
      return place < 0 ? 0 : tensor.number(place)
    }
    let paddedColumns = (tensor.columns + 3) / 4 * 4
    let index =
      switch (tensor.layout, tensor.storedType) {
      case (.rowMajor, .codes): row * ((tensor.columns + 63) / 64 * 64) + column
      case (.rowMajor, _): row * tensor.columns + column
      case (.panels, .int8), (.panels, .codes):
        (row / 16 * (paddedColumns / 4) + column / 4) * 64 + row % 16 * 4 + column % 4
      case (.pairs, _):
        (row / 16 * ((tensor.columns + 1) / 2) + column / 2) * 32 + row % 16 * 2 + column % 2
      default: (row / 16 * tensor.columns + column) * 16 + row % 16
      }
    return tensor.number(index)
  }

  func read(_ buffer: Int) -> [[Double]] { values[buffer] ?? [] }

  mutating func write(_ buffer: Int, _ rows: [[Double]]) {
    guard let quantization = program.buffers[buffer].quantization else {
      values[buffer] = rows
      return
    }
    values[buffer] = rows.map { row in
      row.map { value in
        let code =
          (Float(value) * quantization.inverseScale).rounded(.toNearestOrEven)
          + Float(quantization.zeroPoint)
        return Double(min(Float(quantization.highest), max(Float(quantization.lowest), code)))
      }
    }
  }

  var pooledPosition: Int {
    switch program.poolingRule {
    case .firstRow: 0
    case .largestToken: ids.firstIndex(of: ids.max() ?? 0) ?? 0
    case .endToken: ids.firstIndex(of: Int32(program.endToken)) ?? 0
    }
  }

  // MARK: Instructions

  mutating func run(_ instruction: Instruction) {
    switch instruction {
    case .patchUnfold(let op): write(op.output, patches(op.patchSize))
    case .linear(let op): run(op)
    case .layerNorm(let op): run(op)
    case .attention(let op): run(op)
    case .tokenEmbedding(let op):
      let table = tensor(op.table)
      let position = tensor(op.position)
      let scale = op.scale.map { tensor($0) }
      let group = groupSize(op.table)
      write(
        op.output,
        ids.enumerated().map { place, id in
          table[Int(id)].indices.map { column in
            table[Int(id)][column] * (scale?[Int(id)][column / group] ?? 1)
              + position[place][column]
          }
        })
    case .assembleTokens(let op):
      let rows = tensor(op.classRow) + read(op.input)
      write(op.output, zip(rows, tensor(op.position)).map { zip($0, $1).map { $0 + $1 } })
    case .pool(let input, let output): values[output] = [read(input)[pooledPosition]]
    case .l2Normalize(let input, let output):
      write(
        output,
        read(input).map { row in
          let norm = row.reduce(0) { $0 + $1 * $1 }.squareRoot()
          return row.map { $0 / norm }
        })
    case .quantize(let input, let output): write(output, read(input))
    case .quantizeTokens(let input, let output, let scales):
      let codes = program.buffers[output].quantization
      let limit = Float(Int(codes?.highest ?? 255) - Int(codes?.zeroPoint ?? 128))
      values[scales] = read(input).map { row in
        let peak = row.map { abs(Float($0)) }.max() ?? 0
        return [peak > 0 ? Double(peak / limit) : 1]
      }
      values[output] = zip(read(input), read(scales)).map { row, scale in
        row.map { value in
          Double((Float(value) / Float(scale[0])).rounded(.toNearestOrEven))
            + Double(codes?.zeroPoint ?? 0)
        }
      }
    case .add(let left, let right, let output):
      write(output, zip(read(left), read(right)).map { zip($0, $1).map { $0 + $1 } })
    case .mergeTokens(let op): run(op)
    case .dropTokens(let op): run(op)
    case .routeTokens(let op): run(op)
    case .expertLinear(let op): run(op)
    case .combineExperts(let op): run(op)
    }
  }

  func patches(_ size: Int) -> [[Double]] {
    let (height, width) = (parts.info.imageHeight, parts.info.imageWidth)
    var rows: [[Double]] = []
    for y in 0..<(height / size) {
      for x in 0..<(width / size) {
        var row: [Double] = []
        for channel in 0..<parts.info.imageChannelCount {
          for dy in 0..<size {
            for dx in 0..<size {
              row.append(
                Double(pixels[(channel * height + y * size + dy) * width + x * size + dx]))
            }
          }
        }
        rows.append(row)
      }
    }
    return rows
  }

  /// Columns of a tensor that share a scale.
  func groupSize(_ tensor: Int) -> Int {
    parts.tensors[tensor].groupSize == 0 ? .max : parts.tensors[tensor].groupSize
  }

  /// A product's weights, those of groups times their scales.
  func weights(_ op: ExpertLinear.Expert) -> [[Double]] {
    let group = groupSize(op.weight)
    guard group < .max, let scale = op.scale.map({ tensor($0) }) else { return tensor(op.weight) }
    return zip(tensor(op.weight), scale).map { row, scales in
      row.indices.map { row[$0] * scales[$0 / group] }
    }
  }

  /// `activation(row * weightᵀ + bias)` of a row of buffer `input`.
  func product(
    _ row: [Double], of input: Int, by op: ExpertLinear.Expert, _ weights: [[Double]],
    rowScale: Double?, _ activation: Activation
  ) -> [Double] {
    let hasGroups = groupSize(op.weight) < .max
    let quantization = hasGroups ? program.buffers[input].quantization : nil
    let scale = hasGroups ? nil : op.scale.map { tensor($0)[0] }
    let correction = op.correction.map { tensor($0)[0] }
    let bias = op.bias.map { tensor($0)[0] }
    let isRounded = parts.tensors[op.weight].layout == .pairs
    let row = isRounded ? row.map(Self.roundedToBFloat16) : row
    return weights.enumerated().map { channel, weight in
      var sum = zip(row, weight).reduce(0) {
        $0 + ($1.0 - Double(quantization?.zeroPoint ?? 0)) * $1.1
      }
      sum *= Double(quantization?.scale ?? 1)
      sum = (sum - (correction?[channel] ?? 0)) * (scale?[channel] ?? 1)
      sum = sum * (rowScale ?? 1) + (bias?[channel] ?? 0)
      switch activation {
      case .none: break
      case .quickGELU: sum /= 1 + exp(-1.702 * sum)
      case .gelu: sum *= 0.5 * erfc(-sum / 2.0.squareRoot())
      }
      return sum
    }
  }

  /// The nearest number of 8 binary digits, ties to even.
  static func roundedToBFloat16(_ number: Double) -> Double {
    guard number != 0 else { return 0 }
    let step = Double(sign: .plus, exponent: number.exponent - 7, significand: 1)
    return (number / step).rounded(.toNearestOrEven) * step
  }

  mutating func run(_ op: Linear) {
    let weights = weights(op.operands)
    let residual = op.residual.map { read($0) }
    let rowScale = op.rowScale.map { read($0) }
    let rows = read(op.input).enumerated().map { index, row in
      let sums = product(
        row, of: op.input, by: op.operands, weights, rowScale: rowScale?[index][0],
        op.activation)
      return zip(sums, residual?[index] ?? sums.map { _ in 0 }).map { $0 + $1 }
    }
    write(op.output, rows)
  }

  mutating func run(_ op: LayerNorm) {
    let weight = tensor(op.weight)[0]
    let bias = tensor(op.bias)[0]
    let rows = read(op.input).map { row in
      let mean = row.reduce(0, +) / Double(row.count)
      let variance = row.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(row.count)
      return row.indices.map { index in
        (row[index] - mean) / (variance + Double(op.epsilon)).squareRoot() * weight[index]
          + bias[index]
      }
    }
    write(op.output, rows)
  }

  /// The values that a buffer's codes stand for, or its floats.
  func decoded(_ buffer: Int) -> [[Double]] {
    guard let codes = program.buffers[buffer].quantization else { return read(buffer) }
    return read(buffer).map { row in
      row.map { ($0 - Double(codes.zeroPoint)) * Double(codes.scale) }
    }
  }

  mutating func run(_ op: Attention) {
    let queries = decoded(op.query.buffer)
    let keys = decoded(op.key.buffer)
    let values = decoded(op.value.buffer)
    let isPooled = queries.count != keys.count
    let rows = queries.indices.map { query -> [Double] in
      let position = isPooled ? pooledPosition : query
      let visible = op.isCausal ? position + 1 : keys.count
      return (0..<op.headCount).flatMap { head -> [Double] in
        let columns = (head * op.headWidth)..<((head + 1) * op.headWidth)
        let scores = (0..<visible).map { key in
          columns.reduce(0) {
            $0 + queries[query][op.query.column + $1] * keys[key][op.key.column + $1]
          } * Double(op.scoreScale) + log(op.sizes.map { read($0)[0][key] } ?? 1)
        }
        var weights = scores.map { exp($0 - (scores.max() ?? 0)) }
        var sum = weights.reduce(0, +)
        if op.isInteger {
          weights = weights.map { ($0 * 255).rounded(.toNearestOrEven) }
          sum = weights.reduce(0, +)
        }
        return columns.map { column in
          (0..<visible).reduce(0) { $0 + weights[$1] * values[$1][op.value.column + column] } / sum
        }
      }
    }
    write(op.output, rows)
  }
}

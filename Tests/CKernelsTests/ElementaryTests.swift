import CKernels
import Foundation
import Testing

@Suite struct ElementaryTests {
  /// Sixteen values through an epilogue whose product is zero.
  private func activate(_ x: [Float], _ activation: clip_activation, _ set: KernelSet) -> [Float] {
    let activations = Memory<UInt8>(repeating: 0, count: 4)
    let weights = Memory<Int8>(repeating: 0, count: 64 * ((x.count + 15) / 16))
    let scale = Memory<Float>(repeating: 1, count: x.count), bias = Memory(x)
    let output = Memory<Float>(repeating: 0, count: x.count)
    var arguments = clip_qu8_qs8w_gemm_arguments(
      activations: activations.pointer, activations_stride: 4, weights: weights.pointer,
      output_count: x.count, input_count: 4, scale: scale.pointer, correction: nil, row_scale: nil,
      row_scale_stride: 0,
      epilogue: clip_epilogue())
    arguments.epilogue.bias = UnsafePointer(bias.pointer)
    arguments.epilogue.activation = activation
    arguments.epilogue.output.f32 = output.pointer
    arguments.epilogue.output.f32_stride = x.count
    set.kernels.qu8_qs8w_gemm(&arguments, all(1), all((x.count + 15) / 16))
    return output.elements
  }

  private static let grid = (-60000...60000).map { Float($0) * 0.00025 }

  @Test(arguments: [CLIP_ACTIVATION_QUICK_GELU, CLIP_ACTIVATION_GELU])
  func activationsAreAccurateAndTheSameInAllSets(activation: clip_activation) {
    let reference = activate(Self.grid, activation, .portable)
    for (x, y) in zip(Self.grid, reference) {
      let wanted = activated(Double(x), activation)
      #expect(abs(Double(y) - wanted) <= 1.2e-7 * max(1, abs(wanted)), "at \(x)")
    }
    for set in KernelSet.supported.dropFirst() {
      let bits = activate(Self.grid, activation, set).map(\.bitPattern)
      #expect(bits == reference.map(\.bitPattern), "\(set.testDescription)")
    }
  }

  @Test(arguments: KernelSet.supported) func activationsOfExtremesAreFinite(set: KernelSet) {
    let x: [Float] = [-1e30, -1000, -90, 90, 1000, 1e30]
    for activation in [CLIP_ACTIVATION_QUICK_GELU, CLIP_ACTIVATION_GELU] {
      let y = activate(x, activation, set)
      #expect(y[0...2].allSatisfy { abs($0) < 1e-7 })
      #expect(Array(y[3...5]) == Array(x[3...5]))
      #expect(activate([.nan], activation, set)[0].isNaN)
    }
  }

  @Test func exponentialIsWithinTwoUnits() {
    for x in stride(from: Float(-86.5), through: 88, by: 0.001) {
      let wanted = exp(Double(x))
      #expect(abs(Double(clip_exp(x)) - wanted) <= 2 * wanted * 0x1p-23, "at \(x)")
    }
    #expect(clip_exp(0) == 1)
    #expect(clip_exp(-1e9) > 0)
    #expect(clip_exp(1e9).isFinite)
  }
}
